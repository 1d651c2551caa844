"""From a trained model to its delta: what differs from the encoder."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from attar.config import TaskKind
from attar.errors import ModelError
from attar.nets import loading
from attar.nets.deltas.format import Delta, DeltaSource
from attar.nets.deltas.insertion import by_peft, insert, peft_configuration, peft_tensors


def extract_delta(model: PreTrainedModel, source: DeltaSource, kind: TaskKind, labels: tuple[str, ...]) -> Delta:
    """Return what turns the encoder into a trained model.

    That is every tensor that the encoder's checkpoint lacks (the head, inserted modules, and a pooler that was drawn
    at random: frozen or not, nothing else would bring it back) and every tensor that is not bit for bit the
    checkpoint's any more.

    Args:
        model: trained, its modules still inserted.
        source: what the room says of it.
        kind: the task's kind.
        labels: names of the outputs, in order.

    Raises:
        ModelError: where the model is no result of the encoder and the insertion that ``source`` names.
    """
    tensors, insertion = {}, source.insertion
    if by_peft(insertion):
        tensors, insertion = peft_tensors(model), {"kind": "peft", **peft_configuration(model)}
    fresh, new = loading.load_with_new(source.encoder, kind, labels)
    inserted = insert(fresh, insertion, tensors)
    before, after = fresh.state_dict(), model.state_dict()
    if after.keys() != before.keys():
        other = sorted(after.keys() ^ before.keys())[0]
        raise ModelError(
            f"the trained model is not {source.encoder} with the insertion of {source.method}: they differ in {other}"
        )
    changed = {name for name, t in after.items() if name in new | inserted or not torch.equal(t.cpu(), before[name])}
    if by_peft(insertion):
        assert insertion is not None
        insertion["modules_to_save"], changed = _whole_modules(model, changed - inserted)
    tensors |= {name: after[name] for name in changed}
    return Delta(
        method=source.method,
        settings=source.settings,
        encoder=str(Path(source.encoder).resolve()) if Path(source.encoder).is_dir() else source.encoder,
        insertion=insertion,
        kind=kind,
        labels=labels,
        fingerprint=loading.fingerprint(source.encoder),
        tensors={name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()},
    )


def _whole_modules(model: PreTrainedModel, names: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return the modules that peft has to replace for these tensors, and the names of all tensors in them.

    peft replaces whole modules (``modules_to_save``), and outside the encoder whole parts of the head.
    """
    base = f"{model.base_model_prefix}."
    free = {name for name in names if ".base_layer." not in name}  # peft keeps trained biases of its targets itself
    modules = {n.rpartition(".")[0] if n.startswith(base) else n.partition(".")[0] for n in free}
    whole = {n for n in model.state_dict() if any(n.startswith(f"{module}.") for module in modules)}
    return sorted(modules), whole | set(names)
