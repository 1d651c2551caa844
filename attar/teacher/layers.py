"""A teacher whose layers are looked at: once a text, where there is room to keep what was seen."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attar.config import TrainConfig
from attar.nets.anatomy import anatomy
from attar.nets.hardware import autocast, pick_device
from attar.nets.scoring import model_inputs
from attar.nets.taps import LazyLayers, Tapped, taps
from attar.process_group import world_size
from attar.sizes import parse_size
from attar.teacher.layer_store import LayerStore, Text, signal, texts_of


class TeacherLayers:
    """A frozen teacher in eval mode, and what it showed of texts that came before.

    Nothing but its ids decides what a text does in the layers, so it is found again by these in whatever batch it
    comes, on dev as in training. What is kept is rounded to float16, the first time too, so that epochs do not differ.
    Texts with a value beyond its range, and those that there is no room for, run every time.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        *,
        hidden: Sequence[int] = (),
        scores: Sequence[int] = (),
        relations: Sequence[int] = (),
        precision: str = "auto",
        limit: int = 0,
    ) -> None:
        """Freeze the teacher.

        Args:
            teacher: an encoder on the device of the training, with or without a head.
            hidden: layers (0-based) to see the output of.
            scores: layers to see the attention scores of.
            relations: layers to see queries, keys and values of.
            precision: that of the training.
            limit: bytes of disk for what was seen; 0 keeps nothing.
        """
        self.teacher = teacher.eval().requires_grad_(False)
        self._watched = {"hidden": tuple(hidden), "scores": tuple(scores), "relations": tuple(relations)}
        self._precision = precision
        related = [(kind, layer) for kind in ("query", "key", "value") for layer in relations]
        parts = [("embeddings", 0), *(("hidden", i) for i in hidden), *related, *(("scores", i) for i in scores)]
        sizes = anatomy(teacher)
        self._store = LayerStore(parts, width=sizes.width, heads=sizes.heads, limit=limit) if limit else None

    def __call__(self, batch: Mapping[str, Tensor]) -> Tapped:
        """Return what happens on a batch's ids and masks, (B, T). What stands at padding has no meaning."""
        inputs, store = model_inputs(batch), self._store
        if store is None:
            return self._run(inputs)
        texts = texts_of(inputs)
        new = [row for row, text in enumerate(texts) if text not in store]
        seen = self._run({name: tensor[new] for name, tensor in inputs.items()}) if new else None
        if seen is not None:
            store.add([texts[row] for row in new], seen)
            if not any(text in store for text in texts):
                return seen
        return self._gather(store, texts, dict(zip(new, range(len(new)), strict=True)), seen, inputs["attention_mask"])

    def _run(self, inputs: Mapping[str, Tensor]) -> Tapped:
        device = inputs["attention_mask"].device
        with torch.no_grad(), autocast(device, self._precision), taps(self.teacher, **self._watched) as watch:
            self.teacher.base_model(**inputs)
            return watch.read()

    def _gather(
        self, store: LayerStore, texts: Sequence[Text], new: Mapping[int, int], seen: Tapped | None, mask: Tensor
    ) -> Tapped:
        """Put a batch together from the store and, for what is not in it, from ``seen`` of the rows ``new``."""

        def part(kind: str, layer: int) -> Tensor:
            fresh = None
            values = torch.zeros(len(texts), *store.shape(kind, mask.shape[1]))
            for row, text in enumerate(texts):
                if text in store:
                    found = store.read(text, (kind, layer))
                    values[row][tuple(map(slice, found.shape))] = found
                else:
                    assert seen is not None, "what is not in the store has just been seen"
                    fresh = signal(seen, kind, layer).float().cpu() if fresh is None else fresh
                    values[row] = fresh[new[row]]
            return values.to(mask.device)

        return Tapped(
            embeddings=part("embeddings", 0),
            hidden={layer: part("hidden", layer) for layer in self._watched["hidden"]},
            scores=LazyLayers(self._watched["scores"], lambda layer: part("scores", layer)),
            query={layer: part("query", layer) for layer in self._watched["relations"]},
            key={layer: part("key", layer) for layer in self._watched["relations"]},
            value={layer: part("value", layer) for layer in self._watched["relations"]},
        )


def layers_limit(train: TrainConfig) -> int:
    """Return the bytes that a process may keep of a stage's teacher.

    0 where texts do not come again, and on a GPU: 32 texts of 128 tokens take TinyBERT4's teacher some milliseconds
    there, and as many tens to be read and copied (70 MB; counted, not measured).
    """
    once = train.epochs <= 1 or train.max_steps is not None
    return 0 if once or pick_device().type != "cpu" else parse_size(train.cache_limit) // world_size()
