"""A head for masked words on an encoder that has none, so that it can teach them; the encoder moves where asked."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.data.masking import Masking, mask_tokens, masking_of
from attar.methods.contract import PretrainContext
from attar.methods.mlm_head.config import MlmHead
from attar.nets.anatomy import require_positions
from attar.nets.hardware import pick_device
from attar.nets.loading import load_masked_lm, load_tokenizer
from attar.nets.places import states_and_logits
from attar.nets.scoring import model_inputs
from attar.objectives.masked_lm import masked_lm_loss
from attar.training.stage import Objective, Stage


def plan(config: MlmHead, ctx: PretrainContext) -> list[Stage]:
    """Freeze the encoder, unless it is to move too, and train its head on the texts."""
    torch.manual_seed(ctx.train.seed)  # a new head is drawn here
    model, stored = load_masked_lm(ctx.teacher)
    require_positions(model, ctx.train.max_length)
    tokenizer = load_tokenizer(ctx.teacher)
    if not config.encoder:
        freeze_encoder(model)
    corpus = ctx.corpus(tokenizer)
    masking = masking_of(tokenizer, corpus.counts, smoothing=config.smoothing).to(pick_device())
    moving = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = "the head that the checkpoint has is trained further" if stored else "the checkpoint has no head: a new one"
    stay = "the encoder among them" if config.encoder else "the encoder and its word vectors stay"
    return [
        Stage(
            name="head",
            model=model,
            tokenizer=tokenizer,
            objective=head_objective(model, masking, mask_share=config.mask_share, frozen=not config.encoder),
            train=ctx.train,
            task=None,
            learn=corpus.train,
            dev=corpus.dev,
            notes=[f"{head}; {moving:,} parameters move, {stay}", *corpus.notes()],
        )
    ]


def freeze_encoder(model: PreTrainedModel) -> None:
    """Let nothing but the head of a masked language model move: neither the encoder nor the word vectors tied to it."""
    model.requires_grad_(True)
    model.base_model.requires_grad_(False)


def head_objective(
    inner: PreTrainedModel, masking: Masking, *, mask_share: float = 0.15, frozen: bool = True
) -> Objective:
    """Return the loss of filling in masked words; a frozen encoder has no dropout, and the head alone learns."""

    def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if frozen:
            inner.base_model.eval()
        tokens = batch["input_ids"]
        shown, masked = mask_tokens(tokens, batch["attention_mask"], masking, share=mask_share)
        inputs = {**model_inputs(batch), "input_ids": shown}
        _, logits = states_and_logits(model, inputs, masked, inner=inner)
        loss = masked_lm_loss(logits.float(), tokens[masked])
        return {"loss": loss, "mlm_loss": loss}

    return objective
