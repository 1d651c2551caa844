"""Tiny encoders, tokenizers and data sets, built in memory."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

from attar.data.task import Task
from attar.nets import hardware

_KNOWN = (
    "a the film was is not very good bad great awful dull bright story actor music scene plot boring lovely "
    "anna bob paris rome saw met in of and it this never always . , !"
)
WORDS = _KNOWN.split()
PIECES = ["un", "##happy", "##ly", "##s", "re", "##play"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}

#: Every family that the anatomy knows: configuration class, and what differs from the common sizes.
FAMILIES = {
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {}),
    "xlm-roberta": ("XLMRobertaConfig", {}),
    "mpnet": ("MPNetConfig", {}),
    "electra": ("ElectraConfig", {"embedding_size": 16}),
    "distilbert": ("DistilBertConfig", {"dim": 32, "n_heads": 2, "hidden_dim": 48}),
    "deberta-v2": (
        "DebertaV2Config",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "conv_kernel_size": 3,
        },
    ),
    "modernbert": (
        "ModernBertConfig",
        {
            "global_attn_every_n_layers": 3,
            "local_attention": 4,
            "bos_token_id": 2,
            "cls_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
        },
    ),
}


def pytest_generate_tests(metafunc):
    if "family" in metafunc.fixturenames:
        metafunc.parametrize("family", FAMILIES)


def pytest_configure():
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session", autouse=True)
def _float32_unless_asked():
    """Let "auto" be float32 on every machine: numbers are compared more closely than bfloat16 has digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "_cpu_flags", lambda: set())
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep caches out of the user's home, and apart from test to test."""
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def make_tokenizer():
    """Build a lower-casing WordPiece tokenizer in BERT's form, or one with another mask token and no segments."""

    def _make(*, mask="[MASK]", segments=True, max_length=64, seps=1):
        special = [mask if token == "[MASK]" else token for token in SPECIAL]
        vocabulary = {token: i for i, token in enumerate([*special, *WORDS, *PIECES])}
        core = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        core.normalizer = normalizers.BertNormalizer()
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        between = " ".join(["[SEP]"] * seps)
        core.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair=f"[CLS] $A {between} $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
        names = ["input_ids", "token_type_ids", "attention_mask"] if segments else ["input_ids", "attention_mask"]
        return PreTrainedTokenizerFast(
            tokenizer_object=core,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token=mask,
            model_max_length=max_length,
            model_input_names=names,
        )

    return _make


@pytest.fixture(scope="session")
def tokenizer(make_tokenizer):
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_model():
    """Build an untrained model of a family, with weights large enough that its outputs differ from text to text."""

    def _make(family="bert", *, kind=None, labels=("neg", "pos"), layers=2, seed=0, **settings):
        name, own = FAMILIES[family]
        config = getattr(transformers, name)(**{**_SIZES, "num_hidden_layers": layers, **own, **settings})
        config.initializer_range = 0.3
        if kind is not None:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: i for i, label in enumerate(labels)}
        auto = {None: AutoModel, "token": AutoModelForTokenClassification}.get(kind, AutoModelForSequenceClassification)
        torch.manual_seed(seed)
        model = auto.from_config(config).eval()
        with torch.no_grad():  # LayerNorms of a fresh model are all alike, and a copy of the wrong one would pass
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    return _make


@pytest.fixture
def make_folder(tmp_path, make_model, tokenizer):
    """Save a model of :func:`make_model` with a tokenizer; return the folder's path."""

    def _make(name="teacher", *, tokenizer=tokenizer, **settings):
        folder = tmp_path / name
        make_model(**settings).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return _make


@pytest.fixture(scope="session")
def make_task():
    """A task of a kind with two outputs (one for regression)."""

    def _make(kind="single-label", labels=None, pair=None):
        default = {"regression": ("score",), "token": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")}
        names = tuple(labels or default.get(kind, ("neg", "pos")))
        return Task(kind=kind, text="text", pair=pair, label=("label",), labels=names)

    return _make


@pytest.fixture(scope="session")
def sentences():
    """Draw n texts of 1 to 12 words, all different."""

    def _make(n, seed=0, longest=12):
        generator = np.random.default_rng(seed)
        found = {}
        while len(found) < n:
            found[" ".join(generator.choice(WORDS, generator.integers(1, longest + 1)))] = None
        return list(found)

    return _make


@pytest.fixture(scope="session")
def rows():
    """Make a split with canonical columns."""

    def _make(text, pair=None, label=None, **columns):
        table = {"text": text, "pair": pair, "label": label, **columns}
        return Dataset.from_dict({name: values for name, values in table.items() if values is not None})

    return _make
