"""Linear maps and LayerNorms over rows of several tasks: one product with the shared matrix, the rest by rows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from attar.nets.mixed.changes import LinearChange, NormChange


def linear_rows(
    shared: nn.Linear, values: Tensor, changes: Sequence[LinearChange | None], counts: Sequence[int]
) -> Tensor:
    """Apply a linear map to rows (B, ..., in) whose tasks change everything about it but its matrix.

    Args:
        shared: the encoder's map.
        values: the rows, those of a change together.
        changes: one a group of rows.
        counts: rows of each group.
    """
    given = [change or LinearChange(bias=shared.bias) for change in changes]
    source = values
    if any(change.input_scale is not None for change in given):
        source = values * _by_row([change.input_scale for change in given], counts, values, shared.in_features, 1.0)
    scaled = any(change.output_scale is not None for change in given)
    bias = None
    if any(change.bias is not None for change in given):
        bias = _by_row([change.bias for change in given], counts, values, shared.out_features, 0.0)
    output = functional.linear(source, shared.weight) if scaled else _biased(source, shared.weight, bias)
    _add_low_rank(output, values, given, counts)
    if not scaled:
        return output
    output.mul_(_by_row([change.output_scale for change in given], counts, values, shared.out_features, 1.0))
    return output if bias is None else output.add_(bias)


def norm_rows(
    shared: nn.LayerNorm | None, values: Tensor, changes: Sequence[NormChange | None], counts: Sequence[int]
) -> Tensor:
    """Apply a LayerNorm to rows (B, ..., width) whose tasks have scales or biases of their own."""
    norms = [change.norm if change is not None else shared for change in changes]
    first = norms[0]
    assert first is not None
    shape, eps = first.normalized_shape, first.eps
    if len(norms) == 1:
        return functional.layer_norm(values, shape, first.weight, first.bias, eps)
    biases = [norm.bias for norm in norms if norm is not None]
    bias = None
    if any(b is not None for b in biases):
        bias = _by_row(biases, counts, values, shape[-1], 0.0)
    if all(norm is not None and norm.weight is first.weight for norm in norms):
        output = functional.layer_norm(values, shape, first.weight, None, eps)
        return output if bias is None else output.add_(bias)
    weight = _by_row([norm.weight for norm in norms if norm is not None], counts, values, shape[-1], 1.0)
    output = functional.layer_norm(values, shape, None, None, eps)
    if bias is None:
        return output.mul_(weight)
    return torch.addcmul(bias.to(output.dtype), output, weight.to(output.dtype))


def _biased(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply, and add each row's bias (B, 1..., out) in the product itself where that is possible."""
    if bias is not None and bias.dim() == 1:
        return functional.linear(values, weight, bias)
    if bias is None or torch.is_autocast_enabled(values.device.type):
        output = functional.linear(values, weight)
        return output if bias is None else output.add_(bias)
    # A linear map with one bias for all rows does the same: it writes the bias first and adds the product to it.
    shape = (*values.shape[:-1], weight.shape[0])
    output = bias.expand(shape).contiguous() if bias.shape != shape else bias
    output.view(-1, shape[-1]).addmm_(values.reshape(-1, values.shape[-1]), weight.t())
    return output


def _add_low_rank(output: Tensor, values: Tensor, changes: Sequence[LinearChange], counts: Sequence[int]) -> None:
    start = 0
    for change, count in zip(changes, counts, strict=True):
        if change.down is not None and change.up is not None:
            inner = functional.linear(values[start : start + count], change.down)
            output[start : start + count].add_(functional.linear(inner, change.up), alpha=change.scaling)
        start += count


def _by_row(vectors: Sequence[Tensor | None], counts: Sequence[int], like: Tensor, width: int, fill: float) -> Tensor:
    """Return the vectors of all rows as (B, 1..., width), or the one of all; ``fill`` where a group has none."""
    if any(vector is None for vector in vectors):
        dtype = next((vector.dtype for vector in vectors if vector is not None), torch.float32)
        default = like.new_full((width,), fill, dtype=dtype)
        vectors = [default if vector is None else vector for vector in vectors]
    shape = (sum(counts), *[1] * (like.dim() - 2), width)
    if len(vectors) == 1:
        return vectors[0]  # type: ignore[return-value]
    every = [vector for vector, count in zip(vectors, counts, strict=True) for _ in range(count)]
    return torch.stack(every).view(shape)  # type: ignore[arg-type]
