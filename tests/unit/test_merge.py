"""Deltas as whole models, and as the peft library's checkpoints."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

import attar
from attar.errors import BundleError, ModelError
from attar.nets import loading

PEFT = ("lora", "dora", "ia3", "shira")
AUTO = {"token": AutoModelForTokenClassification}


def logits_of(model, tokenizer, texts):
    """The logits of one text after another, without attar."""
    words = isinstance(texts[0], list)
    found = []
    for text in texts:
        batch = tokenizer(text, is_split_into_words=words, return_tensors="pt")
        accepted = {key: value for key, value in batch.items() if key != "token_type_ids" or "bert" in str(type(model))}
        with torch.no_grad():
            logits = model(**accepted).logits
        starts = [i for i, word in enumerate(batch.word_ids()) if word is not None]
        found.append(logits[0, starts] if words else logits)
    return torch.cat(found).numpy()


@pytest.mark.parametrize("name", ["bert", "mpnet"])
@pytest.mark.parametrize("method", ["head", "freezing", "bitfit", *PEFT])
def test_a_merged_model_loads_without_attar_and_says_the_same(method, name, make_folder, save_delta, tmp_path, texts):
    encoder = make_folder(family=name)
    folder, before = save_delta(encoder, method)
    merged = attar.merge(folder, str(tmp_path / "merged"))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert not hasattr(plain, "peft_config")
    assert not [n for n in plain.state_dict() if "base_layer" in n or "lora" in n or "ia3" in n or "shira" in n]
    for found in (merged.logits(texts("any")), logits_of(plain, merged.bundle.tokenizer, texts("any"))):
        assert np.abs(found - before).max() < 1e-5 * max(1, np.abs(before).max())
    assert plain.config.id2label == {0: "neg", 1: "pos"}
    assert merged.bundle.max_length == 24
    (tmp_path / "plain").touch()
    modes = {file.stat().st_mode for file in (tmp_path / "merged").iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}, "others may read the weights as any other file"


def test_token_classification_is_merged(make_folder, save_delta, tmp_path, texts):
    folder, before = save_delta(make_folder(), "lora", kind="token")
    merged = attar.merge(folder, str(tmp_path / "merged"))
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged")
    assert logits_of(plain, merged.bundle.tokenizer, texts("token")) == pytest.approx(before, abs=1e-5, rel=1e-5)


def test_adapters_are_not_merged_and_nothing_is_left_behind(make_folder, save_delta, tmp_path):
    folder, _ = save_delta(make_folder(), "adapters")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match="non-linear"):
        attar.merge(folder, str(tmp_path / "merged"))
    assert sorted(tmp_path.iterdir()) == before


def test_merging_overwrites_only_where_it_is_told_to(make_folder, save_delta, tmp_path):
    encoder = make_folder()
    folder, _ = save_delta(encoder, "bitfit")
    out = tmp_path / "merged"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists already"):
        attar.merge(folder, str(out))
    assert (out / "mine.txt").exists()
    attar.merge(folder, str(out), overwrite=True)
    assert not (out / "mine.txt").exists()
    for inside in (encoder, folder):
        with pytest.raises(BundleError, match="is what would be merged"):
            attar.merge(folder, inside, overwrite=True)
    with pytest.raises(BundleError, match="holds no delta"):
        attar.merge(encoder, str(tmp_path / "again"))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match="name of a folder"):
        attar.merge(folder, str(tmp_path / "file"), overwrite=True)


# --- interchange with peft


@pytest.mark.parametrize("method", PEFT)
@pytest.mark.parametrize("name", ["bert", "mpnet", "distilbert", "roberta", "deberta-v2", "modernbert"])
def test_peft_reads_our_delta_as_it_lies(name, method, make_folder, save_delta, texts):
    encoder = make_folder(family=name, layers=4 if name == "modernbert" else 2)
    folder, before = save_delta(encoder, method, labels=("a", "b", "c"))
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=3)
    theirs = peft.PeftModel.from_pretrained(model, folder).eval()
    assert logits_of(theirs, loading.load_tokenizer(encoder), texts("any")) == pytest.approx(before, abs=1e-5, rel=1e-5)


def test_peft_reads_a_pooler_that_the_checkpoint_lacks(make_folder, save_delta, texts):
    encoder = make_folder(kind="token", labels=tuple("abcde"))
    folder, before = save_delta(encoder, "lora")
    torch.manual_seed(99)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2, ignore_mismatched_sizes=True)
    theirs = peft.PeftModel.from_pretrained(model, folder).eval()
    assert logits_of(theirs, loading.load_tokenizer(encoder), texts("any")) == pytest.approx(before, abs=1e-5, rel=1e-5)


@pytest.fixture
def save_checkpoint(tmp_path, texts):
    """Save a checkpoint as a user of peft would; return its folder and what the model said before."""

    def _save(encoder, config, n_labels=3):
        auto = AUTO.get("token" if config.task_type == "TOKEN_CLS" else "", AutoModelForSequenceClassification)
        torch.manual_seed(0)
        model = peft.get_peft_model(auto.from_pretrained(encoder, num_labels=n_labels), config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        model.save_pretrained(tmp_path / "checkpoint")
        kind = "token" if config.task_type == "TOKEN_CLS" else "any"
        return str(tmp_path / "checkpoint"), logits_of(model, loading.load_tokenizer(encoder), texts(kind))

    return _save


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"]),
        peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear"),
        peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["dense"], use_dora=True),
        peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"], bias="all"),
        peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"], bias="lora_only"),
        peft.LoraConfig(r=4, target_modules=["query"], modules_to_save=["classifier"]),
        peft.IA3Config(
            task_type="SEQ_CLS", target_modules=["key", "output.dense"], feedforward_modules=["output.dense"]
        ),
        peft.LoraConfig(task_type="TOKEN_CLS", r=4, target_modules=["query", "value"]),
    ],
    ids=["lora", "all-linear", "dora", "bias-all", "bias-lora", "no-task-type", "ia3", "token"],
)
def test_a_checkpoint_of_pefts_loads_as_a_delta(config, make_folder, save_checkpoint, texts, tmp_path):
    encoder = make_folder()
    folder, before = save_checkpoint(encoder, config)
    kind = "token" if config.task_type == "TOKEN_CLS" else "single-label"
    loaded = attar.load(folder)
    assert (loaded.task.kind, loaded.task.labels) == (kind, ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert loaded.logits(texts(kind)) == pytest.approx(before, abs=1e-5, rel=1e-5)
    merged = attar.merge(folder, str(tmp_path / "merged"))
    assert merged.logits(texts(kind)) == pytest.approx(before, abs=1e-5, rel=1e-5)
    deltas = attar.DeltaSet(encoder)
    state = {name: tensor.clone() for name, tensor in deltas.base().state_dict().items()}
    deltas.add("theirs", folder)
    assert deltas.logits("theirs", texts(kind)) == pytest.approx(before, abs=1e-5, rel=1e-5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in deltas.base().state_dict().items())


def test_a_checkpoint_of_one_output_is_a_regression(make_folder, save_checkpoint, texts):
    folder, before = save_checkpoint(make_folder(), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]), 1)
    assert attar.load(folder).task.kind == "regression"
    assert attar.load(folder).logits(texts("any")) == pytest.approx(before, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_type": "CAUSAL_LM"}, "expected task_type SEQ_CLS or TOKEN_CLS, found CAUSAL_LM"),
        ({"base_model_name_or_path": None}, "does not name its encoder"),
        (
            {"base_model_name_or_path": "no/such/encoder"},
            "encoder 'no/such/encoder' of the delta .* was not found.*base_model_name",
        ),
        ({"r": 5}, r"of shape \(4, 32\); its configuration expects \(5, 32\)"),
        ({"peft_type": "NEW"}, "insertion cannot be made"),
        ({"new_option": True}, r"insertion cannot be made.*new_option"),
    ],
)
def test_a_checkpoint_that_cannot_be_loaded_says_why(change, message, make_folder, save_checkpoint):
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query"])
    folder, _ = save_checkpoint(make_folder(), config)
    file = Path(folder) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises((BundleError, ModelError), match=message):
        attar.load(folder)


def test_a_checkpoint_without_its_head_says_so(make_folder, save_checkpoint):
    folder, _ = save_checkpoint(make_folder(), peft.LoraConfig(r=4, target_modules=["query"]))
    file = Path(folder) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "task_type": "SEQ_CLS"}))
    with pytest.raises(BundleError, match=r"holds no head.*modules_to_save"):
        attar.load(folder)
