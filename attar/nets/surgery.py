"""Students cut from a teacher."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers import DistilBertConfig, PreTrainedModel

from attar.errors import ConfigError
from attar.nets.anatomy import anatomy

#: Parts that a layer of BERT and one of DistilBERT share, by their names in the anatomy.
_SHARED_PARTS = (
    *("query", "key", "value", "attention_out", "attention_norm"),
    *("feed_forward_in", "feed_forward_out", "output_norm"),
)
#: What a BERT becomes as a DistilBERT.
_DISTILBERT = {
    transformers.BertModel: transformers.DistilBertModel,
    transformers.BertForMaskedLM: transformers.DistilBertForMaskedLM,
    transformers.BertForSequenceClassification: transformers.DistilBertForSequenceClassification,
    transformers.BertForTokenClassification: transformers.DistilBertForTokenClassification,
}
#: Configuration entries of the sizes that a thin student chooses: DistilBERT's words, then everybody else's.
_SIZE_KEYS = {
    "layers": ("n_layers", "num_hidden_layers"),
    "width": ("dim", "hidden_size"),
    "heads": ("n_heads", "num_attention_heads"),
    "feed_forward": ("hidden_dim", "intermediate_size"),
}


def keep_layers(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a copy of ``model`` that has only the given layers (0-based), weights copied bit for bit.

    Raises:
        ConfigError: for layers that the model does not have, repeated ones, or none.
    """
    depth = len(anatomy(model).layers)
    wrong = [i for i in layers if not 0 <= i < depth]
    if not layers or wrong or len(set(layers)) != len(layers):
        raise ConfigError(f"student layers expects different layer numbers from 0 to {depth - 1}, found {list(layers)}")
    student = copy.deepcopy(model)
    parts = anatomy(student)
    names = [parts.layers[i].state_dict().keys() for i in range(depth)]
    moved = [i for place, i in enumerate(layers) if names[i] != names[place]]
    if moved:  # ModernBERT's first layer lacks a LayerNorm that the others have
        raise ConfigError(
            f"layer {moved[0]} of {type(model).__name__} cannot stand at another place: it has other parameters "
            "than the layer that it would replace; begin the list with layer 0"
        )
    kept = nn.ModuleList(parts.layers[i] for i in layers)
    parent, _, name = parts.layers_path.rpartition(".")
    setattr(parts.base.get_submodule(parent), name, kept)
    setattr(student.config, parts.depth_key, len(kept))
    if getattr(student.config, "layer_types", None):
        # Families with several kinds of layers (ModernBERT) list the kind of each, by position.
        student.config.layer_types = [student.config.layer_types[i] for i in layers]
    return student


def distilbert_student(model: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Return a student of some of the teacher's layers, as DistilBERT is made from BERT (Sanh et al. 2019, section 3).

    A BERT becomes a DistilBERT, which has neither token types nor a pooler; embeddings and layers are copied bit for
    bit, and so are a head for masked words and one for token classification. A head for whole texts is new: BERT's
    reads the pooler. Every other class is kept as it is, see :func:`keep_layers`.

    Args:
        model: the teacher, with or without a head.
        layers: the layers to keep, 0-based.

    Raises:
        ConfigError: for layers that the model does not have, repeated ones, or none.
    """
    kept = keep_layers(model, layers)
    if type(model) not in _DISTILBERT:
        return kept
    config = kept.config
    student = _DISTILBERT[type(model)](
        DistilBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.max_position_embeddings,
            n_layers=config.num_hidden_layers,
            n_heads=config.num_attention_heads,
            dim=config.hidden_size,
            hidden_dim=config.intermediate_size,
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            activation=config.hidden_act,
            initializer_range=config.initializer_range,
            pad_token_id=config.pad_token_id,
            id2label=config.id2label,
            label2id=config.label2id,
        )
    )
    _copy_body(kept, student)
    _copy_head(kept, student)
    return student.train(model.training)


def _copy_body(teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    """Copy embeddings and layers of a BERT into a DistilBERT of the same sizes."""
    source, target = anatomy(teacher), anatomy(student)
    for name in ("word_embeddings", "position_embeddings", "LayerNorm"):
        target.embeddings.get_submodule(name).load_state_dict(source.embeddings.get_submodule(name).state_dict())
    for i in range(len(target.layers)):
        for part in _SHARED_PARTS:
            target.part(i, part).load_state_dict(source.part(i, part).state_dict())


def _copy_head(teacher: PreTrainedModel, student: Any) -> None:
    """Copy the heads that BERT and DistilBERT have in common."""
    if isinstance(teacher, transformers.BertForMaskedLM):
        head = teacher.cls.predictions
        student.vocab_transform.load_state_dict(head.transform.dense.state_dict())
        student.vocab_layer_norm.load_state_dict(head.transform.LayerNorm.state_dict())
        student.vocab_projector.load_state_dict(head.decoder.state_dict())
    elif isinstance(teacher, transformers.BertForTokenClassification):
        student.classifier.load_state_dict(teacher.classifier.state_dict())


def thin_student(model: PreTrainedModel, *, layers: int, width: int, heads: int, feed_forward: int) -> PreTrainedModel:
    """Return a new, randomly initialised model of the teacher's class in smaller sizes, as TinyBERT's are.

    Vocabulary, position limit, head and everything else in the configuration are the teacher's. Draws from torch's
    random numbers.

    Args:
        model: the teacher, with or without a head.
        layers: number of layers.
        width: width of the hidden states; TinyBERT4 312 (Jiao et al. 2020, section 4.2).
        heads: attention heads; distilling attention scores needs the teacher's number.
        feed_forward: width inside the feed-forward layers; TinyBERT4 1200.

    Raises:
        ConfigError: for sizes below 1 or above the teacher's, or a width that the heads do not divide.
    """
    table = model.config.to_dict()
    names = {size: next(key for key in keys if key in table) for size, keys in _SIZE_KEYS.items()}
    sizes = {"layers": layers, "width": width, "heads": heads, "feed_forward": feed_forward}
    for size, value in sizes.items():
        if not 1 <= value <= table[names[size]]:
            raise ConfigError(f"a student's {size} expects 1 to the teacher's {table[names[size]]}, found {value}")
    if width % heads:
        raise ConfigError(
            f"a student's width has to divide by its heads: found width {width} and {heads} heads; "
            f"the nearest smaller width is {width // heads * heads}"
        )
    table.update({names[size]: value for size, value in sizes.items()})
    # What other families derive from these sizes: ELECTRA's and DeBERTa's tables may be narrower than the states.
    for derived in ("embedding_size", "pooler_hidden_size"):
        if table.get(derived):
            table[derived] = min(table[derived], width)
    if table.get("layer_types"):  # ModernBERT: the kind of each layer, by position
        table["layer_types"] = table["layer_types"][:layers]
    return type(model)(type(model.config).from_dict(table))


def inherit_embeddings(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Start a thin student's embedding tables from its teacher's, in place.

    The teacher's word vectors (V, W) are laid on the axes on which they differ most (PCA), as many as the student is
    wide; so are its positions and token types, on the same axes. Tables of equal width are copied.

    Args:
        student: of the teacher's class, see :func:`thin_student`.
        teacher: with or without a head.
    """
    mine, theirs = (_tables(anatomy(model).embeddings) for model in (student, teacher))
    words: Any = teacher.get_input_embeddings().weight
    width = cast(nn.Embedding, student.get_input_embeddings()).embedding_dim
    axes = torch.linalg.eigh(torch.cov(words.detach().double().T)).eigenvectors[:, -width:].to(words.dtype)
    with torch.no_grad():
        for name, table in mine.items():
            rows = theirs[name].weight
            # The mean of all rows says nothing of any of them, and would outweigh the rest in the LayerNorm.
            table.weight.copy_(rows if width == words.shape[1] else (rows - rows.mean(dim=0)) @ axes)


def _tables(embeddings: nn.Module) -> dict[str, nn.Embedding]:
    """Return the tables of words, positions and token types by their names."""
    return {name: module for name, module in embeddings.named_modules() if isinstance(module, nn.Embedding)}


def order_outputs(model: PreTrainedModel, order: Sequence[int], labels: Sequence[str]) -> None:
    """Put the outputs of a task head into another order, in place, and name them.

    Args:
        model: an encoder with a task head, whose last linear layer has one row an output.
        order: for every output of the result, its number now.
        labels: names of the outputs of the result.
    """
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(parameter[list(order)])
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: i for i, label in enumerate(labels)}


def every_other_layer(depth: int) -> tuple[int, ...]:
    """Return half of the layers of a network of ``depth`` layers, spread from the first to the last.

    For 12 layers these are DistilBERT's 0, 2, 4, 7, 9, 11 (Sanh et al. 2019, released code).
    """
    n = max(1, depth // 2)
    if n == 1:
        return (0,)
    # The published choice for 12 is round-half-up of evenly spaced points: 0, 2.2, 4.4, 6.6, 8.8, 11.
    return tuple(int(i * (depth - 1) / (n - 1) + 0.5) for i in range(n))
