"""The three losses of the pre-training, each on its own in the log."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attar.data.masking import Masking, mask_tokens
from attar.nets.places import last_states, states_and_logits
from attar.nets.scoring import model_inputs
from attar.objectives.hidden import hidden_cosine
from attar.objectives.logits import kl_divergence
from attar.objectives.masked_lm import masked_lm_loss
from attar.training.stage import Objective


def pretraining_objective(
    *,
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    masking: Masking,
    alpha_ce: float = 5.0,
    alpha_mlm: float = 2.0,
    alpha_cos: float = 1.0,
    temperature: float = 2.0,
    soft_tokens: str = "real",
    mask_share: float = 0.15,
) -> Objective:
    """Return alpha_ce x soft loss + alpha_mlm x masked words + alpha_cos x cosine (Sanh et al. 2019, section 3).

    Both models read the same masked texts; what is masked is drawn anew in every call. A loss of weight 0 is not
    computed. Padding enters none of the three.

    Args:
        student: a masked language model of the teacher's width and vocabulary.
        teacher: a masked language model in eval mode.
        masking: how tokens are drawn, on the models' device.
        alpha_ce: weight of KL(teacher ‖ student) of softened words, times temperature², mean over ``soft_tokens``.
        alpha_mlm: weight of the cross-entropy at the masked places.
        alpha_cos: weight of the cosine distance of the last hidden states, mean over real tokens.
        temperature: of the soft loss.
        soft_tokens: "real" or "masked".
        mask_share: share of the real tokens that is masked.
    """
    weights = {"soft_loss": alpha_ce, "mlm_loss": alpha_mlm, "cosine_loss": alpha_cos}

    def objective(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tokens, real = batch["input_ids"], batch["attention_mask"].bool()
        shown, masked = mask_tokens(tokens, batch["attention_mask"], masking, share=mask_share)
        inputs = {**model_inputs(batch), "input_ids": shown}
        places = real if alpha_ce and soft_tokens == "real" else masked
        states, logits = states_and_logits(model, inputs, places, inner=student)
        parts: dict[str, Tensor] = {}
        with torch.no_grad():
            if alpha_ce:
                wanted_states, wanted = states_and_logits(teacher, inputs, places, inner=teacher)
            elif alpha_cos:
                wanted_states = last_states(teacher, inputs)
        if alpha_ce:
            parts["soft_loss"] = kl_divergence(logits.float(), wanted.float(), temperature=temperature)
        if alpha_mlm:
            parts["mlm_loss"] = masked_lm_loss(logits[masked[places]].float(), tokens[masked])
        if alpha_cos:
            parts["cosine_loss"] = hidden_cosine(states.float(), wanted_states.float(), real)
        return {"loss": torch.stack([weights[name] * part for name, part in parts.items()]).sum(), **parts}

    return objective
