"""Which tokens of a batch a model has to fill in, drawn anew whenever the batch is seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attar.errors import ModelError

#: Of the tokens drawn, the shares that become the mask token and a random token; the rest stays (BERT's 80/10/10).
_MASKED, _RANDOM = 0.8, 0.1


@dataclass(frozen=True, kw_only=True)
class Masking:
    """What the draws need to know of a tokenizer and its texts."""

    weights: Tensor
    """How readily each token id is drawn, (V,) float; 0 for special tokens."""
    mask_id: int

    def to(self, device: torch.device) -> "Masking":
        """Return the same on another device."""
        return Masking(weights=self.weights.to(device), mask_id=self.mask_id)


def masking_of(tokenizer: PreTrainedTokenizerBase, counts: np.ndarray, *, smoothing: float = 0.7) -> Masking:
    """Return the masking in which a token is drawn with weight max(count, 1)^-smoothing, rare ones more often.

    Args:
        tokenizer: its special tokens are never drawn.
        counts: how often each token id stands in the texts, (V,).
        smoothing: 0 draws all tokens alike; 0.7 is DistilBERT's (Sanh et al. 2019, released code, after XLM).

    Raises:
        ModelError: for a tokenizer without a mask token.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError("expected a tokenizer with a mask token, found none; choose a masked language model")
    weights = torch.from_numpy(np.maximum(counts, 1).astype(np.float64) ** -smoothing).float()
    weights[tokenizer.all_special_ids] = 0.0
    return Masking(weights=weights, mask_id=tokenizer.mask_token_id)


def mask_tokens(
    input_ids: Tensor, attention_mask: Tensor, masking: Masking, *, share: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Draw the tokens to fill in, without replacement, from torch's random numbers.

    Args:
        input_ids: (B, T).
        attention_mask: (B, T), 0 on padding.
        masking: see :func:`masking_of`.
        share: of the batch's real tokens, rounded up, is drawn; less where fewer may be drawn.

    Returns:
        The ids in which 80 % of the tokens drawn are masked, 10 % random and 10 % as they were, (B, T); and the
        places of all tokens drawn, boolean (B, T).
    """
    real = attention_mask.bool()
    weights = torch.where(real, masking.weights[input_ids], 0.0).flatten()
    n = min(math.ceil(share * int(real.sum())), int((weights > 0).sum()))
    drawn = torch.zeros_like(real)
    if n == 0:
        return input_ids, drawn
    places = torch.multinomial(weights, n, replacement=False)
    drawn.view(-1)[places] = True
    fate = torch.rand(n, device=input_ids.device)
    random = torch.randint(len(masking.weights), (n,), device=input_ids.device)
    told = input_ids.flatten()[places]
    told = torch.where(fate < _MASKED, masking.mask_id, torch.where(fate < _MASKED + _RANDOM, random, told))
    shown = input_ids.flatten().index_put((places,), told)
    return shown.view_as(input_ids), drawn
