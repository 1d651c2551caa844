"""Modules that compute every row of a batch as the row's task does. They hold nothing of any task.

Each stands for a module of the encoder, or of a task's head (then there is no module of the encoder). It asks for the
rows' changes at its place: without any it runs the encoder's module on the whole batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attar.nets.mixed.changes import ADAPTER, Change, OwnModule
from attar.nets.mixed.products import linear_rows, norm_rows
from attar.nets.mixed.rows import Span, current


class Place(nn.Module):
    """A linear map, a LayerNorm or a convolution, by rows."""

    def __init__(self, path: str, shared: nn.Module | None) -> None:
        super().__init__()
        self.path = path
        self.shared = shared

    def forward(self, values: Tensor) -> Tensor:
        """Run a batch (B, ...)."""
        spans = current().at(self.path)
        if spans is None:
            assert self.shared is not None
            return self.shared(values)
        runs = _runs(spans)
        if len(runs) == 1:
            return _run(self.shared, values, runs[0])
        return _joined([_run(self.shared, values[r[0].start : r[-1].stop], r) for r in runs])


class AttentionPlace(nn.Module):
    """The attention of DeBERTa, by rows: a task's own wherever the task changes it, else the encoder's."""

    def __init__(self, path: str, shared: nn.Module) -> None:
        super().__init__()
        self.path = path
        self.shared = shared

    def forward(self, hidden: Tensor, mask: Tensor, *args: Any, **settings: Any) -> tuple[Tensor, None]:
        """Run a batch: states (B, T, W) and a mask (B, 1, T, T)."""
        rows = current()
        spans = rows.at(self.path)
        if spans is None:
            return self.shared(hidden, mask, *args, **settings)
        found = []
        for span in spans:
            here = slice(span.start, span.stop)
            module, own = self.shared, settings
            if isinstance(span.change, OwnModule):
                module = span.change.module
                if span.change.relative is not None:
                    table = _once(rows.kept, span.change.relative, span.change.relative.get_rel_embedding)  # type: ignore[arg-type]
                    own = {**settings, "rel_embeddings": table}
            found.append(module(hidden[here], mask[here], *args, **own)[0])
        return torch.cat(found), None


def adapt_rows(place: Any, _: Any, output: Tensor) -> Tensor:
    """Forward hook: send rows through the adapters that their tasks have at a place, writing into ``output``."""
    for span in current().at(place.path + ADAPTER) or ():
        if isinstance(span.change, OwnModule):
            output[span.start : span.stop] = span.change.module(output[span.start : span.stop])
    return output


def _runs(spans: list[Span]) -> list[list[Span]]:
    """Return runs of spans that are computed together; a module of a task's own is run alone."""
    runs: list[list[Span]] = []
    for span in spans:
        alone = isinstance(span.change, OwnModule)
        if not runs or alone or isinstance(runs[-1][-1].change, OwnModule):
            runs.append([span])
        else:
            runs[-1].append(span)
    return runs


def _run(shared: nn.Module | None, values: Tensor, spans: list[Span]) -> Tensor:
    change: Change | None = spans[0].change
    if isinstance(change, OwnModule):
        return change.module.forward(values)  # not called: an adapter's hook may hang on it, and is applied later
    if len(spans) == 1 and change is None:
        assert shared is not None
        return shared(values)
    counts = [span.stop - span.start for span in spans]
    if isinstance(shared, nn.Linear):
        return linear_rows(shared, values, [span.change for span in spans], counts)  # type: ignore[misc]
    return norm_rows(shared, values, [span.change for span in spans], counts)  # type: ignore[arg-type, misc]


def _joined(parts: list[Tensor]) -> Tensor:
    """Put rows one below the other; heads may differ in width, and the rest stays zero."""
    width = max(part.shape[-1] for part in parts)
    if any(part.shape[-1] != width for part in parts):
        parts = [nn.functional.pad(part, (0, width - part.shape[-1])) for part in parts]
    return torch.cat(parts)


def _once(kept: dict, key: Any, make: Callable[[], Tensor]) -> Tensor:
    if key not in kept:
        kept[key] = make()
    return kept[key]
