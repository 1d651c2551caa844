"""The one-layer BiLSTM student of Tang et al. 2019 (arXiv 1903.12136, section 3.1), as a transformers model.

The file depends on torch and transformers alone: it travels inside every bundle, so that
``AutoModelForSequenceClassification.from_pretrained(bundle, trust_remote_code=True)`` works where attar is not
installed. With attar, importing this module registers the classes and no flag is needed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class BilstmConfig(PretrainedConfig):
    """Sizes of the student."""

    model_type = "attar-bilstm"

    def __init__(
        self,
        vocab_size: int = 3,
        embedding_width: int = 300,
        hidden_size: int = 150,
        projection_size: int = 200,
        dropout: float = 0.1,
        siamese: bool = False,
        pad_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_width = embedding_width
        self.hidden_size = hidden_size
        self.projection_size = projection_size
        self.dropout = dropout
        self.siamese = siamese
        self.pad_token_id = pad_token_id
        super().__init__(**kwargs)


class BilstmForSequenceClassification(PreTrainedModel):
    """Word vectors twice (frozen and trainable) → BiLSTM → last states of both directions → ReLU layer → logits.

    Pairs are encoded by the same BiLSTM and joined as [h1, h2, h1∘h2, |h1−h2|]; the two texts are told apart by
    ``token_type_ids``, as the bundle's tokenizer sets them.
    """

    config_class = BilstmConfig
    base_model_prefix = "bilstm"
    main_input_name = "input_ids"

    def __init__(self, config: BilstmConfig) -> None:
        super().__init__(config)
        width, hidden = config.embedding_width, config.hidden_size
        self.frozen_vectors = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.frozen_vectors.weight.requires_grad_(False)
        self.tuned_vectors = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.lstm = nn.LSTM(2 * width, hidden, batch_first=True, bidirectional=True)
        features = 8 * hidden if config.siamese else 2 * hidden
        self.projection = nn.Linear(features, config.projection_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.projection_size, config.num_labels or 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: object,
    ) -> SequenceClassifierOutput:
        """Return the logits.

        Args:
            input_ids: (B, T) word ids.
            attention_mask: (B, T), 0 on padding, which never changes the logits.
            token_type_ids: (B, T), 1 on the words of a pair's second text. Needed for pairs only.
        """
        if attention_mask is None:
            attention_mask = (input_ids != self.config.pad_token_id).long()
        if self.config.siamese:
            if token_type_ids is None:
                raise ValueError("a student of pairs needs token_type_ids; tokenize with tokenizer(first, second)")
            first, second = self._encode_both(input_ids, attention_mask.bool(), token_type_ids == 1)
            features = torch.cat([first, second, first * second, (first - second).abs()], -1)
        else:
            features = self.encode(input_ids, attention_mask.sum(-1))
        hidden = self.dropout(torch.relu(self.projection(features)))
        return SequenceClassifierOutput(logits=self.classifier(hidden))

    def encode(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the last forward state and the last backward state, (B, 2H), of left-aligned rows."""
        # An empty row would be refused; it reads one padding vector, which is zero.
        if input_ids.shape[1] == 0:
            input_ids = input_ids.new_full((len(input_ids), 1), self.config.pad_token_id)
        # Detached, because from_pretrained gives every weight requires_grad.
        vectors = torch.cat([self.frozen_vectors(input_ids).detach(), self.tuned_vectors(input_ids)], -1)  # (B, T, 2E)
        states = _packed_states if vectors.is_cuda else _padded_states
        return states(self.lstm, vectors, lengths.clamp(min=1))

    def _encode_both(self, ids: Tensor, real: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Encode both sides of each pair in one call of the LSTM."""
        sides = [_left_align(ids, real & mask, self.config.pad_token_id) for mask in (~second, second)]
        states = self.encode(torch.cat([s[0] for s in sides]), torch.cat([s[1] for s in sides]))
        return tuple(states.chunk(2))  # type: ignore[return-value]


def _packed_states(lstm: nn.LSTM, vectors: Tensor, lengths: Tensor) -> Tensor:
    """Return the last states of both directions, (B, 2H), the way that cuDNN knows.

    On a CPU the gradient of every step of a packed batch fills a tensor of the whole batch's size: its time grows with
    the square of the length, to half a minute for fifty texts of 500 words.
    """
    _, (states, _) = lstm(pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False))
    return torch.cat([states[0], states[1]], -1)


def _padded_states(lstm: nn.LSTM, vectors: Tensor, lengths: Tensor) -> Tensor:
    """Return the same, each direction run over padded rows; the backward one reads them turned around."""
    steps = torch.arange(vectors.shape[1], device=vectors.device)
    turned = (lengths[:, None] - 1 - steps).clamp(min=0)  # (B, T); what follows a text's end is read and not used
    backwards = vectors.gather(1, turned[:, :, None].expand_as(vectors))
    zeros = vectors.new_zeros(1, len(vectors), lstm.hidden_size)
    rows, states = torch.arange(len(vectors), device=vectors.device), []
    for inputs, side in ((vectors, ""), (backwards, "_reverse")):
        weights = [getattr(lstm, f"{name}_l0{side}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        output, _, _ = torch.lstm(inputs, (zeros, zeros), weights, True, 1, 0.0, lstm.training, False, True)
        states.append(output[rows, lengths - 1])
    return torch.cat(states, -1)


def _left_align(ids: Tensor, keep: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Move the kept ids of each row to its front, in order; return the rows and their lengths."""
    order = (~keep).to(torch.int8).argsort(dim=-1, stable=True)
    aligned = ids.masked_fill(~keep, pad).gather(-1, order)
    return aligned, keep.sum(-1)


AutoConfig.register(BilstmConfig.model_type, BilstmConfig, exist_ok=True)
AutoModelForSequenceClassification.register(BilstmConfig, BilstmForSequenceClassification, exist_ok=True)
BilstmConfig.register_for_auto_class()
BilstmForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
