"""Which layer of the teacher each layer of the student learns."""

from collections.abc import Sequence

from attar.errors import ConfigError


def layer_map(student: int, teacher: int) -> tuple[int, ...]:
    """Return, for every layer of the student, the teacher's layer that it learns, both 0-based.

    The paper's uniform map: the m-th of M layers learns the (m·N/M)-th of N, counted from 1, so that the last one
    learns the last. Where M does not divide N, the nearest layer, halves upwards.

    >>> layer_map(4, 12)
    (2, 5, 8, 11)

    Raises:
        ConfigError: for a student with more layers than the teacher.
    """
    if student > teacher:
        raise ConfigError(
            f"a layer map expects a student with at most the teacher's {teacher} layers, found {student}; "
            "give a smaller layers, or another student"
        )
    return tuple((2 * m * teacher + student) // (2 * student) - 1 for m in range(1, student + 1))


def layer_table(layers: Sequence[int]) -> list[str]:
    """Return the map as two lines of a table, counted from 1 as in the paper; 0 stands for the embeddings."""
    rows = {
        "student layer": range(len(layers) + 1),
        "learns teacher layer": [0, *(layer + 1 for layer in layers)],
    }
    return [f"{name:<21}" + "".join(f"{number:>4}" for number in numbers) for name, numbers in rows.items()]
