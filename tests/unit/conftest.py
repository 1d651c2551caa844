"""Fixtures of the tests about deltas."""

import dataclasses

import pytest
import torch

from attar.bundle import load_bundle, save_bundle
from attar.inference.predictor import Predictor
from attar.nets.deltas.adapters import insert_adapters
from attar.nets.deltas.format import DeltaSource
from attar.nets.deltas.lora import insert_peft, peft_settings
from attar.nets.loading import load_for_task
from attar.nets.selection import bias_names, head_names, norm_names, top_names, train_only

TEXTS = ["the film was very good", "awful plot , dull actor", "not good", "anna met bob in rome"]
#: One layer without adapters (AdapterDrop), and another bottleneck.
PFEIFFER = {"placement": "pfeiffer", "drop_first": 1, "bottleneck": 6, "activation": "relu"}


@pytest.fixture(scope="session")
def texts():
    """Texts by kind of task."""
    return lambda kind: [text.split() for text in TEXTS] if kind == "token" else TEXTS


@pytest.fixture(scope="session")
def tune():
    """Return a task model whose moving parameters have moved, and where it is from."""

    def _tune(encoder, method, kind="single-label", labels=("neg", "pos"), seed=0):
        torch.manual_seed(seed)
        model = load_for_task(encoder, kind, tuple(labels))
        head, insertion = head_names(model), None
        if method in ("adapters", "pfeiffer"):
            own = {"bottleneck": 4} if method == "adapters" else PFEIFFER
            insertion = {"kind": "adapters", **own}
            insert_adapters(model, **own)
            moving = {n for n, _ in model.named_parameters() if ".adapter" in n} | norm_names(model)
        elif method in ("lora", "dora", "ia3", "shira"):
            settings = peft_settings(model, kind=method, rank=2 if method == "shira" else 8)
            insertion = {"kind": "peft", **settings}
            insert_peft(model, **settings)
            moving = {n for n, p in model.named_parameters() if p.requires_grad}
        else:
            chosen = {"head": set, "freezing": lambda: top_names(model, 1), "bitfit": lambda: bias_names(model)}
            moving = chosen[method]()
        train_only(model, moving | head)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        return model.eval(), DeltaSource(method=method, settings={"seed": seed}, encoder=encoder, insertion=insertion)

    return _tune


@pytest.fixture
def save_delta(tmp_path, make_task, tokenizer, tune, texts):
    """Tune an encoder, save the delta; return its folder and what the model said before."""

    def _save(encoder, method, *, kind="single-label", labels=None, seed=0):
        task = make_task(kind, labels)
        model, source = tune(encoder, method, kind, task.labels, seed)
        folder = tmp_path / f"{method}-{kind}-{seed}"
        save_bundle(folder, model, tokenizer, task, max_length=24, precision="float32", delta=source)
        bundle = dataclasses.replace(load_bundle(str(folder)), model=model)
        return str(folder), Predictor(bundle).logits(texts(kind))

    return _save
