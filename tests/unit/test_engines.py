"""Engines turn encoded texts into logits, in row order, whatever the batches."""

import json
import time

import numpy as np
import pytest
from onnx import TensorProto, helper, save

import attar
from attar.data.encoding import encode_texts
from attar.engines.contract import score_batches
from attar.engines.onnx_engine import OnnxEngine
from attar.engines.openvino_engine import OpenvinoEngine
from attar.engines.torch_engine import TorchEngine
from attar.errors import BundleError


@pytest.fixture
def sums(tmp_path):
    """An ONNX file whose logits are (sum of ids, words): known without any model."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["real"]),
        helper.make_node("ReduceSum", ["real", "one"], ["a"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["b"], keepdims=1),
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["logits"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2])
    graph = helper.make_graph(nodes, "sums", inputs, [output], [one])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("engine", [OnnxEngine, OpenvinoEngine])
@pytest.mark.parametrize("tokens", [None, 16, 1])
def test_rows_come_back_in_order_without_their_padding(engine, tokens, sums, tokenizer, sentences):
    texts = sentences(40)
    encoded = encode_texts(texts, None, tokenizer, 64)
    found = engine(sums).score(encoded, tokens)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert found.dtype == np.float32
    assert found.tolist() == [[sum(row), len(row)] for row in ids]


@pytest.mark.parametrize(("long", "pool"), [("chunks", np.mean), ("chunks-max", np.max)])
def test_logits_of_chunks_become_the_texts(long, pool, sums, tokenizer):
    texts = ["good film", "a very good film and never a dull scene in it", "awful"]
    encoded = encode_texts(texts, None, tokenizer, 6, long=long)
    found = OnnxEngine(sums).score(encoded)
    for row, logits in enumerate(found):
        batch = encoded.batch([row])
        lines = [[ids[ids != 0].sum(), (ids != 0).sum()] for ids in batch["input_ids"].numpy()]
        assert (len(lines) > 1) == (row == 1)
        np.testing.assert_allclose(logits, pool(np.array(lines, np.float32), axis=0), rtol=1e-6)


def test_words_of_a_token_task_come_back_row_by_row(tokenizer, sentences):
    texts = [text.split() for text in sentences(20)]
    encoded = encode_texts(texts, None, tokenizer, 8, words=True)
    found = score_batches(lambda batch: batch["input_ids"][..., None].astype(np.float32), encoded, 24)
    known = tokenizer.get_vocab()
    kept = [text[: len(encoded.words(i))] for i, text in enumerate(texts)]
    assert found[:, 0].tolist() == [known[word] for text in kept for word in text]


@pytest.mark.parametrize("workers", [2, 5])
def test_batches_that_end_in_another_order_come_back_in_the_rows(workers, tokenizer, sentences):
    texts = sentences(20)
    encoded = encode_texts(texts, None, tokenizer, 24)
    before, at_once, most = encoded.batches(24), 0, 0

    def slow_at_first(batch):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.02 if batch["input_ids"].shape[1] == next_length else 0.001)
        at_once -= 1
        return batch["input_ids"].sum(1, keepdims=True).astype(np.float32)

    next_length = next(before)[1]["input_ids"].shape[1]
    found = score_batches(slow_at_first, encoded, 24, workers)
    assert found[:, 0].tolist() == [sum(tokenizer(text).input_ids) for text in texts]
    assert 1 < most <= workers


def test_torch_is_the_default_and_another_engine_takes_its_place(make_folder, tokenizer):
    model = attar.load(make_folder(kind="single-label"))
    assert isinstance(model.engine, TorchEngine)

    class Constant:
        name = "constant"

        def score(self, encoded, max_tokens=None):
            return np.tile(np.float32([[0, 5]]), (len(encoded), 1))

    replaced = attar.Predictor(model.bundle, Constant())
    assert [p.label for p in replaced.predict(["good", "bad film"])] == ["pos", "pos"]
    assert replaced.logits(["good"]).tolist() == [[0, 5]]


def test_a_small_batch_of_torch_changes_nothing(make_folder, tokenizer, sentences):
    model = attar.load(make_folder(kind="single-label"))
    encoded = encode_texts(sentences(20), None, tokenizer, 64)
    np.testing.assert_allclose(model.engine.score(encoded, 16), model.engine.score(encoded), atol=1e-5)


def test_a_torn_export_says_so(tmp_path, make_task, tokenizer):
    manifest = {"format": 1, "task": make_task().to_dict(), "max_length": 24, "precision": "float32"}
    manifest["export"] = {"engine": "onnx", "file": "model.onnx"}
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "attar.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"lacks model\.onnx"):
        attar.load(str(tmp_path))
    (tmp_path / "model.onnx").write_text("no model")
    with pytest.raises(BundleError, match="export the model again"):
        attar.load(str(tmp_path))
    with pytest.raises(BundleError, match="export the model again"):
        OpenvinoEngine(tmp_path / "model.onnx")
