"""What a ``student`` setting stands for, told without loading torch."""


def cut_from_teacher(student: str) -> bool:
    """Return whether a ``student`` setting names layers of the teacher."""
    return student == "half" or student.startswith("layers:")
