"""Make the encoder of a folder read longer texts: windowed attention, positions extended, saved as any other model."""

from pathlib import Path

from transformers import PreTrainedModel

from attar.bundle import load_bundle, require_free, save_bundle, whole_folder
from attar.errors import BundleError
from attar.nets.deltas.format import is_delta
from attar.nets.loading import has_head, load_as_stored, load_tokenizer
from attar.nets.longer import WINDOW, make_longer
from attar.nets.saving import save_model


def lengthen(
    model: str,
    out: str,
    *,
    max_length: int,
    window: int = WINDOW,
    global_projections: bool = False,
    overwrite: bool = False,
) -> PreTrainedModel:
    """Write a windowed encoder that reads longer texts, and return it.

    A head that is stored with the encoder, for a task or for masked words, is kept.

    Args:
        model: folder or hub name of an encoder, a bundle, or a fine-tuned transformers model.
        out: folder to write; it appears complete or not at all.
        max_length: longest input in tokens.
        window: tokens that a token attends to, half of them on either side.
        global_projections: give what the first token reads projections of its own, at first copies.
        overwrite: replace what is at ``out``.

    Raises:
        BundleError: for a delta, and where something is in the way.
        ModelError: for what cannot be loaded, and families that cannot be windowed.
        ConfigError: for a window that is no shorter than the texts.
    """
    target = Path(out)
    if is_delta(model):
        raise BundleError(f"{model} is a delta; make a whole model of it first: attar merge {model} --out MODEL")
    require_free(target, overwrite=overwrite)
    if target.resolve() == Path(model).resolve():
        raise BundleError(f"{out} is what would be read; choose another --out")
    settings = {"max_length": max_length, "window": window, "global_projections": global_projections}
    if has_head(model, "single-label") or has_head(model, "token"):
        b = load_bundle(model)
        long, tokenizer = make_longer(b.model, **settings), b.tokenizer  # type: ignore[arg-type]
    else:
        b, tokenizer = None, load_tokenizer(model)
        long = make_longer(load_as_stored(model), **settings)  # type: ignore[arg-type]
    tokenizer.model_max_length = max_length
    with whole_folder(target) as folder:
        if b is not None:
            save_bundle(folder, long, tokenizer, b.task, max_length=max_length, precision=b.precision, long="windowed")
        else:
            save_model(long, tokenizer, folder)
    return long
