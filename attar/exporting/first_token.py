"""What a head reads is all that the last layer computes: a graph rewritten for heads on the first token.

A classifier on the first token takes one row of the last layer's output. The feed-forward block of that layer, and the
product behind its attention, then need that row only, which spares three quarters of the layer's products: a sixteenth
of a network of 12 layers, more than a third of one of two. The row is the same but for the order of sums.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Operators that work on each token by itself, with one input.
_UNARY = {"Gelu", "Erf", "Tanh", "Relu", "Sigmoid", "Sqrt", "Neg", "Cast", "Identity"}
#: Operators that work element by element on two inputs.
_BINARY = {"Add", "Sub", "Mul", "Div", "Pow"}
_BOUNDS = ("first_start", "first_end", "first_axis")


def read_first_token_only(file: Path) -> int:
    """Rewrite an ONNX file in place, and return how many operators now work on the first token alone.

    The head is found by its ``Gather`` of row 0 along the tokens. From there operators that see every token by itself
    are followed back, as long as nothing else reads their results; where they end, the first token is cut out. A graph
    without such a head (token classification, a mean over tokens) stays as it is.
    """
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    count = _rewrite(model)
    if count:
        onnx.save(model, str(file))
    return count


def _rewrite(model: "ModelProto") -> int:
    graph = model.graph
    ranks = _ranks(model)
    weights = {one.name for one in graph.initializer}
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(i)
    outputs = {one.name for one in graph.output}
    heads = {i for i, node in enumerate(graph.node) if _reads_first_row(node, model, ranks)}
    wanted, moved = {graph.node[i].input[0] for i in heads}, set(heads)
    cut: set[str] = set()
    for i in range(len(graph.node) - 1, -1, -1):
        node = graph.node[i]
        if not node.output or node.output[0] not in wanted:
            continue
        inputs = _token_inputs(node, weights, ranks)
        if inputs and node.output[0] not in outputs and moved.issuperset(readers[node.output[0]]):
            moved.add(i)
            wanted.update(inputs)
        else:
            cut.add(node.output[0])
    if len(moved) == len(heads) or not _produced(graph.node) >= wanted:
        return 0
    _apply(model, moved, cut)
    return len(moved) - len(heads)


def _apply(model: "ModelProto", moved: set[int], cut: set[str]) -> None:
    """Let the moved nodes read the first row of what is cut, and drop shapes that no longer hold."""
    from onnx import TensorProto, helper

    graph = model.graph
    nodes: list[NodeProto] = []
    for i, node in enumerate(graph.node):
        if i in moved:
            for place, name in enumerate(node.input):
                if name in cut:
                    node.input[place] = f"{name}_first"
        nodes.append(node)
        nodes += [
            helper.make_node("Slice", [name, *_BOUNDS], [f"{name}_first"], name=f"{name}_first")
            for name in node.output
            if name in cut
        ]
    changed = {name for i in moved for name in graph.node[i].output}
    shapes = [one for one in graph.value_info if one.name not in changed]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.value_info.extend(shapes)
    values = dict(zip(_BOUNDS, (0, 1, 1), strict=True))
    graph.initializer.extend(helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in values.items())


def _ranks(model: "ModelProto") -> dict[str, int]:
    known = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    return {
        **{one.name: len(one.type.tensor_type.shape.dim) for one in known if one.type.tensor_type.HasField("shape")},
        **{one.name: len(one.dims) for one in model.graph.initializer},
    }


def _reads_first_row(node: "NodeProto", model: "ModelProto", ranks: dict[str, int]) -> bool:
    if node.op_type != "Gather" or ranks.get(node.input[0]) != 3 or _attribute(node, "axis", 0) != 1:
        return False
    from onnx import numpy_helper

    index = next((one for one in model.graph.initializer if one.name == node.input[1]), None)
    return index is not None and not index.dims and int(numpy_helper.to_array(index)) == 0


def _token_inputs(node: "NodeProto", weights: set[str], ranks: dict[str, int]) -> list[str]:
    """Return the inputs (batch, tokens, width) of an operator that sees every token by itself; none for others."""
    given = list(node.input)
    if node.op_type in _UNARY:
        tokens = given[:1]
    elif node.op_type in _BINARY:
        tokens = [name for name in given if name not in weights or ranks.get(name, 3) > 1]
    elif node.op_type == "LayerNormalization" and _attribute(node, "axis", -1) in (-1, 2):
        tokens = given[:1] if set(given[1:]) <= weights else []
    elif node.op_type == "MatMul" and given[1] in weights and ranks[given[1]] == 2:
        tokens = given[:1]
    else:
        tokens = []
    return tokens if all(ranks.get(name) == 3 and name not in weights for name in tokens) else []


def _attribute(node: "NodeProto", name: str, default: int) -> int:
    return next((one.i for one in node.attribute if one.name == name), default)


def _produced(nodes: "Iterable[NodeProto]") -> set[str]:
    return {name for node in nodes for name in node.output}
