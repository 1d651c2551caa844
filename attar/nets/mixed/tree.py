"""An encoder's module tree as batches of mixed tasks need it, cut into pieces. No weight is copied."""

import copy
import dataclasses
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.nets.anatomy import anatomy
from attar.nets.deltas.adapters import adapter_places
from attar.nets.first_token import cut_off_twin, last_norm
from attar.nets.mixed.changes import HEAD, attention_paths
from attar.nets.mixed.places import AttentionPlace, Place, adapt_rows
from attar.nets.prefix import cut

#: Modules in whose weights, scales or biases rows can differ.
_BY_ROW = (nn.Linear, nn.LayerNorm, nn.Conv1d)


class MixedTree:
    """The modules of an encoder with places that ask for each row's task, and the heads of task models.

    It is the same for every batch: which rows are whose is said by :func:`attar.nets.mixed.rows.computing`.

    Args:
        encoder: without a head; its modules and parameters are used and never changed.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        parts = anatomy(encoder)
        self.depth = len(parts.layers)
        base = _twin(encoder, "", attention_paths(parts))
        # transformers would hang hooks on modules at a model's first call, while other threads may be running them.
        base._output_capturing_hooks_installed = True
        for path in adapter_places(parts):
            place = base.get_submodule(path)
            place.path = path
            place.register_forward_hook(adapt_rows)
        layers = base.get_submodule(parts.layers_path)
        self._parts = dataclasses.replace(parts, base=base, layers=layers, embeddings=base.embeddings)
        self._segments: dict[tuple[int, int, bool], nn.Module] = {}
        self._heads: dict[type, nn.Module] = {}

    def add_head(self, model: PreTrainedModel) -> None:
        """Take over how task models of this class compute their logits, none of the weights."""
        if type(model) in self._heads:
            return
        base = cut(self._parts, self.depth, self.depth, top=True)
        for name, module in list(base.named_children()):
            if getattr(model.base_model, name, module) is None:
                setattr(base, name, None)  # a pooler that this kind of model does without
        head = _bare(model)
        head._output_capturing_hooks_installed = True
        head._modules = {
            name: base if name == model.base_model_prefix else module and _twin(module, HEAD + name, set(), keep=False)
            for name, module in model._modules.items()
        }
        self._heads[type(model)] = head

    def segment(self, start: int, stop: int, inputs: dict[str, Tensor], *, first_token: bool = False) -> Tensor:
        """Run layers ``start`` to ``stop``, the first segment from token ids, and return hidden states (B, T, W).

        With ``first_token`` the last layer's may be those of the first token alone, (B, 1, W).
        """
        key = (start, stop, first_token)
        if key not in self._segments:
            found = cut(self._parts, start, stop)
            norm = last_norm(self._parts) if first_token else None
            self._segments[key] = found if norm is None else cut_off_twin(found, norm)
        return self._segments[key](**inputs).last_hidden_state

    def head(self, kind: type, states: Tensor, mask: Tensor) -> Tensor:
        """Return the logits of rows whose task models are of one class, from the last layer's states."""
        return self._heads[kind](inputs_embeds=states, attention_mask=mask[:, : states.shape[1]]).logits


def _twin(module: Any, path: str, whole: set[str], *, keep: bool = True) -> Any:
    """Copy the modules of a tree, parameters in common, with places where rows can differ.

    Args:
        module: the tree.
        path: its own.
        whole: paths of modules that are one place.
        keep: whether places hold the module that they stand for.
    """
    if path in whole:
        return AttentionPlace(path, module)
    if isinstance(module, _BY_ROW):
        return Place(path, module if keep else None)
    twin = _bare(module)
    twin._modules = {
        name: child if child is None else _twin(child, f"{path}.{name}".lstrip("."), whole, keep=keep)
        for name, child in module._modules.items()
    }
    return twin


def _bare(module: Any) -> Any:
    """Copy one module, without what hangs on its outputs; what reads its inputs stays (windowed attention does)."""
    twin = copy.copy(module)
    twin._forward_hooks, twin._forward_pre_hooks = OrderedDict(), OrderedDict(module._forward_pre_hooks)
    return twin
