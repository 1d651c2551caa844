import json

import pytest
import yaml
from test_report import single_label

from attar.card import write_card
from attar.errors import BundleError, ModelError
from attar.hub import push_bundle


def card(tmp_path, **changes):
    record = single_label()
    record["config"] = {"method": {"name": "lora"}, "model": "bert-base-uncased"}
    for model in record["models"]:
        for role in model["metrics"].values():
            role.setdefault("mcc", 0.5)
    record |= changes
    write_card(record, tmp_path)
    text = (tmp_path / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    return record, yaml.safe_load(head), body


def test_the_cards_metadata_are_the_records_figures(tmp_path):
    record, head, body = card(tmp_path)
    (result,) = head["model-index"][0]["results"]
    found = {metric["name"]: metric["value"] for metric in result["metrics"]}
    test = record["models"][0]["metrics"]["test"]
    assert found == {"accuracy": test["accuracy"], "macro f1": test["macro_f1"], "mcc": test["mcc"]}
    assert head["metrics"] == ["accuracy", "f1", "matthews_correlation"]
    assert (head["pipeline_tag"], head["base_model"]) == ("text-classification", "bert-base-uncased")
    assert "license" not in head
    assert result["dataset"] == {"type": "reviews.csv", "name": "reviews.csv", "split": "test"}
    assert "datasets" not in head  # a file of this machine is none of the hub's
    assert "| teacher | 87.7 MiB | 100 | 10 ms |" in body


def test_the_hub_takes_the_card(tmp_path):
    from huggingface_hub import ModelCard

    card(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert [result.metric_type for result in data.eval_results] == ["accuracy", "f1", "matthews_correlation"]


def test_names_with_quotes_and_colons_stay_valid(tmp_path):
    data = {"source": 'user/data: "set"', "rows": {}}
    _, head, _ = card(tmp_path, name='a: "b" #c', data=data)
    assert head["model-index"][0]["name"] == 'a: "b" #c'
    assert head["datasets"] == [data["source"]]


@pytest.mark.parametrize("model", ["/models/minilm", "./minilm", "a/b/c", "tests"])
def test_a_local_encoder_is_no_base_model(tmp_path, model):
    assert "base_model" not in card(tmp_path, config={"method": {"name": "lora"}, "model": model})[1]


def test_a_delta_and_a_tagger_say_what_they_are(tmp_path):
    (tmp_path / "delta.json").write_text("{}")
    record = single_label()
    _, head, _ = card(tmp_path, task=record["task"] | {"kind": "token"})
    assert (head["library_name"], head["pipeline_tag"]) == ("attar", "token-classification")


# Publishing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "attar.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "README.md").write_text("---\n---\n")
    return str(tmp_path)


def test_what_is_no_bundle_is_not_pushed(tmp_path):
    with pytest.raises(BundleError, match="no bundle"):
        push_bundle(str(tmp_path), "name/repo")


def test_offline_is_said_to_be_so(bundle, monkeypatch):
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", raises(OfflineModeIsEnabled("offline")))
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        push_bundle(bundle, "name/repo")


def test_no_token_and_no_network_are_said_to_be_so(bundle, monkeypatch):
    import httpx
    from huggingface_hub.errors import LocalTokenNotFoundError

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", raises(LocalTokenNotFoundError("none")))
    with pytest.raises(ModelError, match="hf auth login"):
        push_bundle(bundle, "name/repo")
    for error in (httpx.ConnectError("no route"), ConnectionError("no route")):
        monkeypatch.setattr("huggingface_hub.HfApi.whoami", raises(error))
        with pytest.raises(ModelError, match="cannot be reached"):
            push_bundle(bundle, "name/repo")


def test_the_texts_stay_here(bundle, monkeypatch):
    sent = {}
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: {"name": "name"})
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda self, repo, **named: Address(repo))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda self, **named: sent.update(named))
    assert push_bundle(bundle, "name/repo") == "https://hub/name/repo"
    assert "predictions.parquet" in sent["ignore_patterns"]


class Address(str):
    @property
    def repo_id(self):
        return str.__str__(self)

    def __str__(self):
        return f"https://hub/{self.repo_id}"


def raises(error):
    def call(*_, **__):
        raise error

    return call
