"""From a delta's folder to a model: find its encoder, check that it is the one, put the delta in.

:mod:`attar.nets.loading` calls this module for folders that hold deltas, so that whoever loads a model need not ask.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from attar.errors import BundleError, ModelError
from attar.nets import loading
from attar.nets.deltas.format import DeltaHeader, is_delta, place_of_encoder, read_delta, read_header, weights_file
from attar.nets.deltas.insertion import by_peft, fill_peft, insert
from attar.nets.deltas.sharing import share_parameters


def load_delta_model(
    folder: str | Path, encoder: str | None = None, *, over: PreTrainedModel | None = None
) -> PreTrainedModel:
    """Load the model of a delta's task: its encoder, with the modules, tensors and head of the delta, in eval mode.

    Args:
        folder: the delta.
        encoder: where its encoder is now; by default where the delta says.
        over: the encoder, already in memory. The model then has no copy of what the delta leaves as it is, and uses
            the parameters of ``over``, which are never written to.

    Raises:
        BundleError: for a folder without a delta, a torn one, or one that does not fit the model that it names.
        ModelError: where the encoder cannot be loaded, or is another than the one that the delta was trained on.
    """
    delta = read_delta(folder)
    name = _checked_encoder(delta, folder, encoder)
    model, new = loading.load_with_new(name, delta.kind, delta.labels)
    if over is not None:
        share_parameters(model, over)
    inserted = insert(model, delta.insertion, delta.tensors)
    tensors = delta.tensors
    if by_peft(delta.insertion):
        tensors, inserted = fill_peft(model, tensors, str(folder)), set()
    _put_in(model, tensors, new | inserted, str(folder))
    return model.eval()


def encoder_of(folder: str | Path, encoder: str | None = None) -> str:
    """Return where a delta's encoder is, having checked that it is the one.

    Raises:
        ModelError: where it is not there, or is another one.
    """
    return _checked_encoder(read_header(folder), folder, encoder)


def load_delta_config(folder: str | Path, encoder: str | None = None) -> PreTrainedConfig:
    """Return the configuration of a delta's task model: the encoder's, with the task's labels and architecture."""
    header = read_header(folder)
    config = loading.load_config(_checked_encoder(header, folder, encoder))
    config.id2label = dict(enumerate(header.labels))
    config.label2id = {label: i for i, label in enumerate(header.labels)}
    config.problem_type = None  # the encoder's own, if it was tuned before
    config.architectures = [loading.task_architecture(config, header.kind)]
    return config


def load_for_task(folder: str | Path, kind: str) -> PreTrainedModel:
    """Load a delta's model where :func:`attar.nets.loading.load_for_task` is asked for one.

    Raises:
        ModelError: for a delta of another kind of task.
    """
    if not has_delta_head(folder, kind):
        raise ModelError(f"{folder} holds a delta for a task of kind {read_header(folder).kind}; expected {kind}")
    return load_delta_model(folder)


def has_delta_head(folder: str | Path, kind: str) -> bool:
    """Return whether a delta has a head for this kind of task."""
    return (read_header(folder).kind == "token") == (kind == "token")


def delta_fingerprint(folder: str | Path, encoder: str | None = None) -> str:
    """Return a hash of a delta and its encoder, wherever the two lie; ``encoder`` is where that was moved."""
    header = read_header(folder)
    insertion = {key: value for key, value in (header.insertion or {}).items() if key != "base_model_name_or_path"}
    parts = [
        header.fingerprint or loading.fingerprint(encoder or header.encoder),
        loading.hash_files([weights_file(folder)]),
        json.dumps([header.kind, header.labels, insertion], sort_keys=True),
    ]
    return hashlib.blake2b("|".join(parts).encode(), digest_size=16).hexdigest()


def _checked_encoder(header: DeltaHeader, folder: str | Path, encoder: str | None) -> str:
    name = encoder or header.encoder
    if is_delta(name):
        raise ModelError(
            f"the encoder of {folder} is {name}, itself a delta; make a whole model of it with attar merge"
        )
    try:
        found = loading.fingerprint(name)
    except ModelError as error:
        raise ModelError(
            f"the encoder {name!r} of the delta {folder} was not found; put it back, or write where it is now under "
            f"{place_of_encoder(folder)} ({error})"
        ) from error
    if header.fingerprint is not None and found != header.fingerprint:
        raise ModelError(
            f"the delta {folder} was trained on the encoder {header.encoder} (fingerprint {header.fingerprint}); "
            f"found {name} (fingerprint {found}). A delta fits no other encoder: give the one that it was trained on"
        )
    return name


def _put_in(model: PreTrainedModel, tensors: Mapping[str, Tensor], wanted: set[str], where: str) -> None:
    """Give a task model the tensors of a delta, as new parameters: what stood there before is left as it is.

    ``wanted`` names what is random in the model until the delta gives it a value.
    """
    have = model.state_dict()
    if strange := sorted(tensors.keys() - have.keys()):
        raise BundleError(f"the delta {where} has {strange[0]}, which its encoder's task model lacks")
    if lacking := sorted(wanted - tensors.keys()):
        raise BundleError(f"the delta {where} lacks {lacking[0]}; the model would have random weights there")
    for name, tensor in tensors.items():
        if tensor.shape != have[name].shape:
            raise BundleError(
                f"the delta {where} has {name} of shape {tuple(tensor.shape)}; "
                f"its encoder's task model expects {tuple(have[name].shape)}"
            )
    model.load_state_dict(tensors, strict=False, assign=True)
