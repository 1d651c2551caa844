"""What is served: bundles by name, and the deltas of one folder over one encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.data.task import Task
from attar.errors import BundleError, ConfigError, DataError, ModelError, nearest
from attar.inference.delta_set import DeltaSet
from attar.inference.predictor import Prediction, Predictor, load
from attar.nets.deltas.format import is_delta, read_header
from attar.serving.batcher import Outcome, Row
from attar.serving.refusal import Refusal


class Models:
    """Named models that score rows of mixed tasks.

    Only one thread at a time may call :meth:`score`, :meth:`add` and :meth:`remove`.

    Args:
        bundles: loaded models by name.
        folder: where deltas lie, one a subfolder; None serves none.
        encoder: where the deltas' encoder is, by default where the first one says.
        max_tokens: longest text in tokens; None cuts longer ones at the model's limit.
    """

    def __init__(
        self,
        bundles: Mapping[str, Predictor],
        *,
        folder: str | None = None,
        encoder: str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._bundles = dict(bundles)
        self._folder, self._encoder, self._max_tokens = folder, encoder, max_tokens
        self._deltas: DeltaSet | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, bundles first."""
        return (*self._bundles, *(self._deltas.names if self._deltas else ()))

    def use(self, name: str) -> Predictor:
        """Return the model of a name.

        Raises:
            Refusal: 404, where there is none.
        """
        if name in self._bundles:
            return self._bundles[name]
        if self._deltas is None or name not in self._deltas.names:
            some = ", ".join(self.names[:20]) + (", …" if len(self.names) > 20 else "") or "none"
            shown = name if len(name) <= 100 else f"{name[:100]}…"
            raise Refusal(404, f"no task is named {shown!r}{nearest(shown, self.names)} (there are: {some})")
        return self._deltas.use(name)

    def task(self, name: str) -> Task:
        """Return the task of a name; raises as :meth:`use`."""
        return self.use(name).task

    def table(self) -> list[dict[str, Any]]:
        """Return what a client needs to know of every model."""
        return [self.row(name) for name in self.names]

    def row(self, name: str) -> dict[str, Any]:
        """Return what a client needs to know of one model."""
        task = self.task(name)
        source = "bundle" if name in self._bundles else "delta"
        return {"name": name, "kind": task.kind, "labels": list(task.labels), "pairs": bool(task.pair), "from": source}

    def add(self, name: str, delta: str) -> dict[str, Any]:
        """Load a delta, ``delta`` being the name of its folder within the folder of deltas.

        Raises:
            Refusal: 409 for a name that is taken or a server without deltas, 422 for a folder that cannot be served.
        """
        if self._folder is None:
            raise Refusal(409, "this server was started without --deltas, so none can be added")
        if name in self.names:
            raise Refusal(409, f"there is a task named {name!r} already; remove it first, or give another name")
        place = Path(self._folder) / delta
        if delta in ("", ".", "..") or Path(delta).name != delta or not is_delta(place):
            raise Refusal(422, f"expected the name of a delta's folder within the server's --deltas; found {delta!r}")
        try:
            self._load(name, place)
        except (BundleError, ConfigError, ModelError) as error:
            raise Refusal(422, f"{delta!r} cannot be served: {error}") from error
        return self.row(name)

    def remove(self, name: str) -> None:
        """Forget a delta.

        Raises:
            Refusal: 404 for a name that is not there, 409 for a bundle.
        """
        self.use(name)
        if name in self._bundles or self._deltas is None:
            raise Refusal(409, f"{name!r} is a bundle that the server was started with; only deltas can be removed")
        self._deltas.remove(name)

    def load_folder(self) -> None:
        """Load every delta of the folder under its own name.

        Raises:
            ConfigError: for a folder without deltas, deltas of several encoders, and a name that a bundle has.
        """
        folder = Path(self._folder or "")
        if not folder.is_dir():
            raise ConfigError(f"--deltas expects a folder with one delta a subfolder; found {self._folder}")
        found = sorted(place for place in folder.iterdir() if is_delta(place))
        if not found and not self._bundles:
            raise ConfigError(f"--deltas expects a folder with one delta a subfolder; {folder} has none")
        _check_one_encoder(found)
        for place in found:
            if place.name in self._bundles:
                raise ConfigError(
                    f"a bundle and a delta are both named {place.name!r}; give the bundle another name: NAME=FOLDER"
                )
            self._load(place.name, place)

    def score(self, rows: Sequence[Row]) -> list[Outcome]:
        """Return a prediction for every row, or the error that it alone is to blame for."""
        outcomes: list[Outcome | None] = [self._too_long(row) for row in rows]
        groups: dict[Any, list[int]] = {}
        for i, (name, _, pair) in enumerate(rows):
            if outcomes[i] is None:
                groups.setdefault((name, pair is None) if name in self._bundles else "deltas", []).append(i)
        for where in groups.values():
            for i, outcome in zip(where, self._guarded([rows[i] for i in where]), strict=True):
                outcomes[i] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _guarded(self, rows: list[Row]) -> list[Outcome]:
        """Score rows; where that fails, halve them until the bad ones are alone."""
        try:
            name, _, pair = rows[0]
            if name in self._bundles:
                return [*_predict(self._bundles[name], rows, pairs=pair is not None)]
            if self._deltas is None:
                raise Refusal(404, f"no task is named {name!r}")
            return [*predict_deltas(self._deltas, rows)]
        except Exception as error:
            if len(rows) == 1:
                return [error]
        half = len(rows) // 2
        return self._guarded(rows[:half]) + self._guarded(rows[half:])

    def _too_long(self, row: Row) -> DataError | None:
        if self._max_tokens is None:
            return None
        name, *parts = row
        whole = [" ".join(part) if isinstance(part, list) else part for part in parts if part is not None]
        if sum(len(text.encode()) for text in whole) <= self._max_tokens:  # no tokenizer makes more tokens than bytes
            return None
        try:
            tokenizer = self.use(name).bundle.tokenizer
            n = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in whole)
        except Exception as error:
            return DataError(f"the text cannot be tokenized ({type(error).__name__})")
        return DataError(f"expected at most {self._max_tokens} tokens, found {n}") if n > self._max_tokens else None

    def _load(self, name: str, place: Path) -> None:
        if self._deltas is None:
            self._deltas = DeltaSet(self._encoder or read_header(place).encoder)
        self._deltas.add(name, str(place))


def predict_deltas(deltas: DeltaSet, rows: Sequence[Row]) -> list[Prediction]:
    """Score rows of several deltas of one set: the one place that decides how a batch that mixes tasks runs."""
    return deltas.predict_rows([row if row[2] is not None else row[:2] for row in rows])


def open_models(
    bundles: Sequence[str], deltas: str | None = None, *, encoder: str | None = None, max_tokens: int | None = None
) -> Models:
    """Load bundles, given as ``FOLDER`` or ``NAME=FOLDER``, and a folder of deltas; run each model once.

    Raises:
        ConfigError: for nothing to serve, or two models of one name.
        AttarError: for what cannot be loaded.
    """
    if not bundles and deltas is None:
        raise ConfigError("attar serve expects a BUNDLE, or --deltas DIR; found neither")
    if encoder is not None and deltas is None:
        raise ConfigError("--encoder says where the encoder of --deltas is; there are no --deltas")
    places: dict[str, str] = {}
    for given in bundles:
        name, place = _named(given)
        if name in places:
            raise ConfigError(f"two bundles are named {name!r}; give one of them another name: NAME=FOLDER")
        places[name] = place
    models = Models(
        {name: load(place) for name, place in places.items()}, folder=deltas, encoder=encoder, max_tokens=max_tokens
    )
    if deltas is not None:
        models.load_folder()
    _warm_up(models)
    return models


def _named(given: str) -> tuple[str, str]:
    name, equals, place = given.partition("=")
    if equals and "/" not in name and not Path(given).exists():
        return name, place
    return Path(given).resolve().name if Path(given).exists() else given.rpartition("/")[2], given


def _warm_up(models: Models) -> None:
    """Run every model once: what cannot run should stop the start, and the first client should not wait for kernels."""
    for name in models.names:
        task = models.task(name)
        text = ["a"] if task.kind == "token" else "a"
        for outcome in models.score([(name, text, "a" if task.pair else None)]):
            if isinstance(outcome, Exception):
                raise ModelError(f"{name} cannot score a text: {outcome}") from outcome


def _predict(model: Predictor, rows: Sequence[Row], *, pairs: bool) -> list[Prediction]:
    texts = [text for _, text, _ in rows]
    return model.predict(texts, [str(pair) for *_, pair in rows]) if pairs else model.predict(texts)


def _check_one_encoder(places: Sequence[Path]) -> None:
    headers = [(place, read_header(place)) for place in places]
    known = [(place, header) for place, header in headers if header.fingerprint is not None]
    for place, header in known[1:]:
        first, own = known[0]
        if header.fingerprint != own.fingerprint:
            raise ConfigError(
                f"the deltas of one server share one encoder; {first.name} is of {own.encoder} and {place.name} is of "
                f"{header.encoder}. Serve them from folders of their own"
            )
