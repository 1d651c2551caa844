"""The last layer computes the first token only where the head reads no other, and then says the same."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from attar.exporting.encoder import OPSETS, write_encoder


def graph_of(model, inputs, tmp_path):
    file = tmp_path / "model.onnx"
    write_encoder(model, inputs, OPSETS["onnx"], file)
    return file, onnx.load(str(file)).graph


def below_a_cut(graph):
    """Shapes of the weights whose products see the first token alone."""
    weights = {one.name: tuple(one.dims) for one in graph.initializer}
    single, found = set(), []
    for node in graph.node:
        if node.name.endswith("_first") or single.intersection(node.input):
            single.update(node.output)
            if node.op_type == "MatMul":
                found.append(weights[node.input[1]])
    return found


@pytest.mark.parametrize("name", ["bert", "mpnet"])
def test_the_last_layer_works_on_the_first_token(name, make_model, tmp_path):
    model = make_model(name, kind="single-label")
    width, inner = model.config.hidden_size, model.config.intermediate_size
    names = ("input_ids", "attention_mask", "token_type_ids")[: 3 if name == "bert" else 2]
    file, graph = graph_of(model, names, tmp_path)
    products = below_a_cut(graph)
    assert products.count((width, inner)) == 1, "the last layer's feed-forward block, and no other layer's"
    assert (inner, width) in products
    assert (width, width) in products, "the product behind attention"
    session = onnxruntime.InferenceSession(str(file))
    ids = torch.randint(5, 20, (3, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    batch["attention_mask"][1, 4:] = 0
    found = session.run(["logits"], {name: batch[name].numpy() for name in names})[0]
    with torch.no_grad():
        expected = model.eval()(**{name: batch[name] for name in names}).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_head_on_every_token_stays_as_it_is(make_model, tmp_path):
    model = make_model(kind="token", labels=("O", "B-PER"))
    _, graph = graph_of(model, ("input_ids", "attention_mask", "token_type_ids"), tmp_path)
    assert not below_a_cut(graph)
