"""The frozen prefix: layers that do not move run once a text instead of once a text and epoch."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from attar.config import TrainConfig
from attar.data.encoding import Encoded
from attar.data.states import EncodedStates, states_size, store_states
from attar.nets.anatomy import anatomy
from attar.nets.first_token import first_token_only, first_token_suffices
from attar.nets.hardware import pick_device
from attar.nets.prefix import frozen_depth, only_prefix, prefix_in_eval, without_prefix
from attar.nets.scoring import TOKENS_PER_BATCH, forward_batches
from attar.process_group import all_agree, world_size
from attar.progress import progress
from attar.sizes import parse_size, room_for_temporary_files, show_size
from attar.training.stage import OnLogits, Stage

log = logging.getLogger("attar")


@contextmanager
def frozen_prefix(stage: Stage, texts: Sequence[Encoded]) -> Iterator[Sequence[Encoded]]:
    """Prepare a stage's model for training above its frozen bottom, and put it back at the end.

    The frozen bottom (see :func:`attar.nets.prefix.frozen_depth`) runs in eval mode. Where there is more than one
    epoch and its output fits the limit, it runs here, once, and the model then starts above it.

    Args:
        stage: what is trained.
        texts: the texts to learn from, then those to evaluate on.

    Yields:
        What to draw batches from: ``texts``, or the same rows with stored states in place of token ids.
    """
    depth = frozen_depth(stage.model)
    if depth == 0:
        yield texts
        return
    assert isinstance(stage.model, PreTrainedModel)
    with prefix_in_eval(stage.model, depth):
        stored = _stored(stage, stage.model, depth, texts)
        if stored is None:
            yield texts
        else:
            with without_prefix(stage.model, depth):
                yield stored


def _stored(
    stage: Stage, model: PreTrainedModel, depth: int, texts: Sequence[Encoded]
) -> Sequence[EncodedStates] | None:
    """Return the states of all texts, or None where they are of no use or do not fit."""
    limit = parse_size(stage.train.cache_limit)
    # A stage without a task may write into the token ids (masked words), and then no two epochs are alike.
    if limit == 0 or stage.task is None or _epochs(stage.train, len(texts[0])) <= 1:
        return None
    parts = anatomy(model)
    alone = depth == len(parts.layers) and isinstance(stage.objective, OnLogits) and first_token_suffices(model)
    kept = [encoded.first_tokens() for encoded in texts] if alone else texts
    size = sum(states_size(encoded, parts.width) for encoded in kept) * world_size()
    what = f"{depth} of {len(parts.layers)} layers are frozen, and their output takes {show_size(size)}"
    refusal = _refusal(size, limit)
    if refusal:
        _say(stage, f"{what}: {refusal}, so they run in every epoch")
        return None
    tokens = sum(int(encoded.offsets[-1]) for encoded in kept)
    _say(stage, f"{what} for {tokens:,} tokens: it is computed once, into a temporary file")
    try:
        with first_token_only(model) if alone else nullcontext():
            found = _compute(stage, model, depth, texts, kept)
    except OSError as error:
        log.warning("%s: %s", tempfile.gettempdir(), error.strerror or error)
        found = None
    if all_agree(found is not None):
        return found
    _say(stage, "the output of the frozen layers could not be stored, so they run in every epoch")
    return None


def _epochs(train: TrainConfig, rows: int) -> float:
    return train.max_steps * train.batch_size / rows if train.max_steps else train.epochs


def _refusal(size: int, limit: int) -> str | None:
    if size > limit:
        return f"more than train.cache_limit ({show_size(limit)}) allows"
    room = room_for_temporary_files()
    if size > room:
        return f"more than {tempfile.gettempdir()} has room for ({show_size(room)})"
    return None


def _say(stage: Stage, note: str) -> None:
    log.info(note)
    stage.notes.append(note)


def _compute(
    stage: Stage, model: PreTrainedModel, depth: int, texts: Sequence[Encoded], kept: Sequence[Encoded]
) -> Sequence[EncodedStates] | None:
    """Run the frozen layers over all texts and store the states of the tokens that are kept.

    In float16 where every state is in its range, else in bfloat16.
    """
    model.to(pick_device())  # type: ignore[arg-type]
    for dtype in (torch.float16, torch.bfloat16):
        with progress("frozen layers", sum(map(len, texts)), unit=" texts") as bar, only_prefix(model, depth) as base:
            precision = stage.train.precision
            found = [
                store_states(tokens, _states(base, text, precision, bar), dtype)
                for tokens, text in zip(kept, texts, strict=True)
            ]
        if all(part is not None for part in found):
            return [part for part in found if part is not None]
        if dtype == torch.float16:
            _say(stage, "states of the frozen layers are beyond the range of float16: stored in bfloat16")
    return None


def _states(base: nn.Module, encoded: Encoded, precision: str, bar: tqdm) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (row numbers, states of all their tokens, or of their first one where the model makes no other)."""
    batches = encoded.batches(TOKENS_PER_BATCH[pick_device().type])
    for rows, states in forward_batches(base, batches, precision=precision, read=_real_states):
        yield rows, states
        bar.update(len(rows))


def _real_states(output: object, batch: dict[str, Tensor]) -> Tensor:
    """Return the last hidden states of all tokens but padding, (tokens, W)."""
    hidden: Tensor = output.last_hidden_state  # type: ignore[attr-defined]
    return hidden[batch["attention_mask"][:, : hidden.shape[1]].bool()]
