"""The frozen prefix: found, cut off and put back, computed once, and the same result as without."""

import dataclasses

import numpy as np
import pytest
import torch

from attar import sizes
from attar.config import TrainConfig, from_table
from attar.data.encoding import encode
from attar.data.states import EncodedStates, store_states
from attar.errors import ConfigError
from attar.nets.anatomy import anatomy
from attar.nets.bilstm import BilstmConfig, BilstmForSequenceClassification
from attar.nets.prefix import frozen_depth, only_prefix, prefix_in_eval, without_prefix
from attar.nets.scoring import model_inputs, score_encoded
from attar.objectives.task import task_loss
from attar.sizes import parse_size, show_size
from attar.training import loop, prefix
from attar.training.loop import run_stage
from attar.training.stage import OnLogits, Stage
from attar.training.trainer import StageTrainer

LAYERS = 3
#: Names that the families have for their dropout rates.
DROPOUT = dict.fromkeys(
    (
        "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embedding_dropout",
        "mlp_dropout",
    ),
    0.4,
)  # fmt: skip


def freeze(model, depth):
    """Freeze everything of the base but its layers from ``depth`` on and what runs after the last."""
    parts = anatomy(model)
    parts.base.requires_grad_(False)
    for module in (*list(parts.layers)[depth:], *parts.top):
        module.requires_grad_(True)
    return model


def snapshot(model):
    """Everything that has to be back after a swap: weights bit for bit and in order, modules, modes, settings."""
    return (
        [(name, value.clone()) for name, value in model.state_dict().items()],
        [(name, id(module), module.training) for name, module in model.named_modules()],
        {name: (id(p), p.requires_grad) for name, p in model.named_parameters()},
        model.config.to_dict(),
        sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()),
    )


def assert_restored(model, before):
    after = snapshot(model)
    assert [name for name, _ in after[0]] == [name for name, _ in before[0]]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(after[0], before[0], strict=True))
    assert after[1:] == before[1:]


@pytest.fixture
def encoded(rows, sentences, tokenizer):
    return encode(rows(sentences(9)), tokenizer, 24)


@pytest.fixture
def make_stage(make_model, make_task, rows, sentences, tokenizer):
    """A stage over 24 texts that trains the top of a three-layer model, with dropout in all of it."""

    def make(family="bert", *, depth=2, kind="single-label", pair=False, task=True, **train):
        torch.manual_seed(0)
        made = make_task(kind, pair="pair" if pair else None)
        model = freeze(make_model(family, kind=kind, labels=made.labels, layers=LAYERS, **DROPOUT), depth)

        def split(n, seed):
            texts = sentences(n, seed)
            generator = np.random.default_rng(seed)
            if kind == "token":
                words = [text.split() for text in texts]
                return rows(words, label=[generator.integers(0, 5, len(w)).tolist() for w in words])
            label = generator.random(n) if kind == "regression" else generator.integers(0, 2, n)
            return rows(texts, sentences(n, seed + 50) if pair else None, label.tolist())

        def loss(logits, batch):
            return {"loss": task_loss(logits, batch["labels"], kind)}

        settings = {"epochs": 4, "batch_size": 8, "lr": 1e-3, "max_length": 24, "precision": "float32", **train}
        return Stage(
            name="tune",
            model=model,
            tokenizer=tokenizer,
            objective=OnLogits(loss),
            train=TrainConfig(**settings),
            task=made if task else None,
            learn=[(split(24, 1), True)],
            dev=split(10, 2),
        )

    return make


def trained(stage, folder):
    """Train; return the weights, and how often the first layer ran on how many texts."""
    texts = []
    handle = anatomy(stage.model).layers[0].register_forward_pre_hook(lambda _, inputs: texts.append(len(inputs[0])))
    result = run_stage(stage, folder, title="")
    handle.remove()
    return {name: value.clone() for name, value in stage.model.state_dict().items()}, sum(texts), result


# How deep the frozen bottom reaches


def test_depth_is_the_number_of_layers_below_the_lowest_moving_parameter(family, make_model):
    for depth in range(LAYERS + 1):
        assert frozen_depth(freeze(make_model(family, kind="single-label", layers=LAYERS), depth)) == depth


def test_a_moving_parameter_inside_a_layer_ends_the_prefix(make_model):
    model = freeze(make_model("bert", kind="single-label", layers=LAYERS), LAYERS)
    anatomy(model).part(1, "query").bias.requires_grad_(True)
    assert frozen_depth(model) == 1


def test_whatever_feeds_all_layers_has_to_be_frozen_too(family, make_model):
    model = freeze(make_model(family, kind="single-label", layers=LAYERS), 2)
    parts = anatomy(model)
    inside = {id(p) for module in (parts.layers, *parts.top) for p in module.parameters()}
    outside = [p for p in parts.base.parameters() if id(p) not in inside]
    for parameter in outside:
        parameter.requires_grad_(True)
        assert frozen_depth(model) == 0
        parameter.requires_grad_(False)
    assert frozen_depth(model) == 2


def test_networks_without_an_anatomy_have_no_prefix(make_model):
    assert frozen_depth(BilstmForSequenceClassification(BilstmConfig(vocab_size=9)).requires_grad_(False)) == 0
    assert frozen_depth(torch.nn.ModuleList([freeze(make_model(), 1)])) == 0


# The swap


@pytest.mark.parametrize("depth", [1, LAYERS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_logits_on_stored_states_are_the_whole_models(family, depth, dtype, make_model, encoded):
    model = make_model(family, kind="single-label", layers=LAYERS)
    before = snapshot(model)
    whole = score_encoded(model, encoded, precision="float32")
    batch = encoded.batch(range(len(encoded)))
    with torch.no_grad(), only_prefix(model, depth) as base:
        states = base(**model_inputs(batch)).last_hidden_state
    assert_restored(model, before)
    real = batch["attention_mask"].bool()
    if dtype == torch.float32:
        batch = {"attention_mask": batch["attention_mask"], "inputs_embeds": states * real.unsqueeze(-1)}
    else:
        stored = store_states(encoded, [(np.arange(len(encoded)), states[real].numpy())], dtype)
        batch = stored.batch(range(len(encoded)))
        assert set(batch) == {"attention_mask", "inputs_embeds"}
        assert batch["inputs_embeds"].dtype == dtype
    with torch.no_grad(), without_prefix(model, depth):
        found = model(**model_inputs(batch)).logits.numpy()
    assert_restored(model, before)
    # A state keeps 11 bits in float16 and 8 in bfloat16; logits here are of size 1 to 10.
    tolerance = {torch.float32: 1e-5, torch.float16: 0.02, torch.bfloat16: 0.2}[dtype]
    np.testing.assert_allclose(found, whole, rtol=tolerance, atol=tolerance)


def test_everything_is_put_back_after_an_error(family, make_model):
    model = freeze(make_model(family, kind="single-label", layers=LAYERS), 2)
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt), prefix_in_eval(model, 2), only_prefix(model, 2):
        raise KeyboardInterrupt
    assert_restored(model, before)
    with pytest.raises(KeyboardInterrupt), prefix_in_eval(model, 2), without_prefix(model, 2):
        raise KeyboardInterrupt
    assert_restored(model, before)


def test_layers_above_keep_their_numbers_in_the_state_dict(make_model):
    model = make_model("bert", kind="single-label", layers=LAYERS)
    whole = model.state_dict()
    with without_prefix(model, 2):
        upper = set(model.state_dict())
        assert [name for name in whole if ".layer.2." in name or name.startswith(("bert.pooler", "classifier"))] == [
            *model.state_dict()
        ]
    assert upper < set(whole)


def test_the_frozen_bottom_runs_in_eval_mode_while_the_rest_trains(family, make_model, encoded):
    model = make_model(family, kind="single-label", layers=LAYERS, **DROPOUT)
    batch = model_inputs(encoded.batch(range(4)))
    seen = []
    anatomy(model).layers[2].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))

    def forward():
        model.train()
        return model(**batch).logits

    forward(), forward()
    assert not torch.equal(seen[0], seen[1])
    with prefix_in_eval(model, 2):
        first, second = forward(), forward()
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(first, second)
    forward()
    assert not torch.equal(seen[3], seen[4])


# Storage


def test_states_lie_under_the_row_numbers_of_the_texts(encoded):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(encoded.offsets[-1], 4)).astype(np.float16).astype(np.float32)
    order = generator.permutation(len(encoded))
    given = [(rows, np.concatenate([values[encoded.offsets[r] : encoded.offsets[r + 1]] for r in rows]))
             for rows in np.array_split(order, 3)]  # fmt: skip
    stored = store_states(encoded, given, torch.float16)
    batch = stored.batch([3, 1])
    assert batch["inputs_embeds"].shape == (2, max(encoded.lengths[3], encoded.lengths[1]), 4)
    for place, row in enumerate([3, 1]):
        mine = batch["inputs_embeds"][place].float().numpy()
        n = encoded.lengths[row]
        assert np.array_equal(mine[:n], values[encoded.offsets[row] : encoded.offsets[row + 1]])
        assert not mine[n:].any()


def test_states_beyond_float16_are_refused_there_and_kept_in_bfloat16(encoded):
    values = np.full((encoded.offsets[-1], 2), 1e5, np.float32)
    given = [(np.arange(len(encoded)), values)]
    assert store_states(encoded, given, torch.float16) is None
    assert float(store_states(encoded, given, torch.bfloat16).batch([0])["inputs_embeds"].max()) == pytest.approx(
        1e5, rel=0.01
    )


# Training


@pytest.mark.parametrize(
    ("name", "depth", "settings"),
    [
        ("bert", 2, {}),
        ("bert", LAYERS, {}),
        ("mpnet", 1, {"pair": True}),
        ("modernbert", 2, {"kind": "token"}),
        ("deberta-v2", LAYERS, {"kind": "token"}),
        ("electra", 1, {"kind": "regression"}),
        ("distilbert", 2, {"max_steps": 7}),
    ],
)
def test_training_gives_the_same_weights_with_and_without_the_cache(name, depth, settings, make_stage, tmp_path):
    plain, runs, _ = trained(make_stage(name, depth=depth, cache_limit="0", **settings), tmp_path / "plain")
    stage = make_stage(name, depth=depth, **settings)
    start = {name: value.clone() for name, value in stage.model.state_dict().items()}
    cached, once, result = trained(stage, tmp_path / "cached")
    assert once == 34 < runs  # every text of train and dev, once
    assert any("computed once" in note for note in stage.notes)
    moving = {name for name, p in stage.model.named_parameters() if p.requires_grad}
    for name, value in cached.items():
        if name in moving:
            # The prefix draws no random numbers in either run, so dropout above it falls on the same places. What
            # differs is half precision; Adam turns a gradient near zero into a step of up to lr = 1e-3 (12 steps).
            torch.testing.assert_close(value, plain[name], rtol=0, atol=4e-3, msg=name)
        else:
            assert torch.equal(value, start[name])
    together = torch.cat([(cached[name] - plain[name]).flatten() for name in sorted(moving)])
    moved = torch.cat([(plain[name] - start[name]).flatten() for name in sorted(moving)])
    assert together.norm() < 0.1 * moved.norm()
    assert result["curve"]


@pytest.mark.parametrize(("name", "kind"), [("bert", "single-label"), ("mpnet", "regression"), ("bert", "token")])
def test_of_an_encoder_frozen_as_a_whole_no_more_is_stored_than_the_head_reads(name, kind, make_stage, tmp_path):
    stage = make_stage(name, depth=LAYERS, kind=kind)
    run_stage(stage, tmp_path, title="")
    (note,) = (note for note in stage.notes if "computed once" in note)
    assert ("for 34 tokens" in note) == (kind != "token")  # a text each of train and dev


def test_every_chunk_keeps_its_first_token(make_stage, tmp_path):
    long = {"long": "chunks", "max_length": 6, "depth": LAYERS}
    plain, _, _ = trained(make_stage(cache_limit="0", **long), tmp_path / "plain")
    stage = make_stage(**long)
    cached, lines, _ = trained(stage, tmp_path / "cached")
    assert lines > 34
    assert any(f"for {lines} tokens" in note for note in stage.notes)
    for weight in ("classifier.weight", "bert.pooler.dense.weight"):
        torch.testing.assert_close(cached[weight], plain[weight], rtol=0, atol=4e-3)


def test_the_model_is_whole_again_after_training_and_after_an_error(make_stage, tmp_path, monkeypatch):
    stage = make_stage()
    modules = [(name, id(module)) for name, module in stage.model.named_modules()]
    run_stage(stage, tmp_path / "one", title="")
    assert [(name, id(module)) for name, module in stage.model.named_modules()] == modules
    monkeypatch.setattr(StageTrainer, "evaluate", interrupt_at(1))
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, tmp_path / "two", title="")
    assert [(name, id(module)) for name, module in stage.model.named_modules()] == modules
    assert not any(module._forward_pre_hooks for module in stage.model.modules())


def interrupt_at(call):
    whole, calls = StageTrainer.evaluate, []

    def evaluate(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(self, *args, **kwargs)

    return evaluate


def untimed(curve):
    return [{name: value for name, value in point.items() if name != "seconds"} for point in curve]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(make_stage, tmp_path, monkeypatch):
    whole, _, one = trained(make_stage(), tmp_path / "whole")
    for name in ("cached", "plain"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(StageTrainer, "evaluate", interrupt_at(3))
            run_stage(make_stage(), tmp_path / name, title="")
    resumed, _, two = trained(make_stage(), tmp_path / "cached")
    assert untimed(one["curve"]) == untimed(two["curve"])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    # The checkpoint of a run with the cache continues without it: its layers have the whole model's numbers.
    other, _, _ = trained(make_stage(cache_limit="0"), tmp_path / "plain")
    for name in whole:
        torch.testing.assert_close(other[name], whole[name], rtol=0, atol=4e-3, msg=name)


def test_the_best_epoch_is_loaded_again(make_stage, tmp_path, monkeypatch):
    scores, kept = iter([0.1, 0.9, 0.5, 0.2]), []

    def falling(stage, encoded):
        def score(model):
            kept.append(model.classifier.weight.clone())
            return {stage.task.headline: next(scores)}

        return score

    monkeypatch.setattr(loop, "_dev_metrics", falling)
    stage = make_stage()
    run_stage(stage, tmp_path, title="")
    assert torch.equal(stage.model.classifier.weight, kept[1])
    assert not torch.equal(kept[1], kept[3])


def test_an_interrupt_while_states_are_computed_leaves_the_model_whole(make_stage, tmp_path, monkeypatch):
    stage = make_stage()
    before = snapshot(stage.model)

    def half_way(encoded, states, dtype):
        next(states)
        raise KeyboardInterrupt

    monkeypatch.setattr(prefix, "store_states", half_way)
    with pytest.raises(KeyboardInterrupt) as kept:
        run_stage(stage, tmp_path, title="")
    assert kept.tb is not None  # alive, with all that its frames hold
    assert_restored(stage.model, before)


def test_texts_beyond_the_limit_run_in_every_epoch_and_a_note_says_why(make_stage, tmp_path, monkeypatch, caplog):
    plain, _, _ = trained(make_stage(cache_limit="0"), tmp_path / "plain")
    small = make_stage(cache_limit="1KiB")
    with monkeypatch.context() as patch:
        patch.setattr(prefix, "store_states", None)
        found, _, _ = trained(small, tmp_path / "small")
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert len(small.notes) == 1
    assert "2 of 3 layers are frozen" in small.notes[0]
    assert "more than train.cache_limit (1.0 KiB) allows" in small.notes[0]

    full = make_stage()
    with monkeypatch.context() as patch:
        free = sizes.shutil.disk_usage("/")._replace(free=1000)
        patch.setattr(sizes.shutil, "disk_usage", lambda _: free)
        found, _, _ = trained(full, tmp_path / "full")
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert "has room for (900 B)" in full.notes[0]


def test_a_disk_that_fills_up_meanwhile_costs_the_cache_and_not_the_run(make_stage, tmp_path, monkeypatch, caplog):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    plain, _, _ = trained(make_stage(cache_limit="0"), tmp_path / "plain")
    stage = make_stage()
    monkeypatch.setattr(prefix, "store_states", no_space)
    found, _, _ = trained(stage, tmp_path / "stage")
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    assert "No space left on device" in caplog.text
    assert "could not be stored" in stage.notes[-1]


def test_states_beyond_float16_train_from_bfloat16(make_stage, tmp_path, monkeypatch):
    whole = prefix.store_states

    def beyond(encoded, states, dtype):
        found = whole(encoded, states, dtype)
        return None if dtype == torch.float16 else found

    monkeypatch.setattr(prefix, "store_states", beyond)
    stage = make_stage()
    _, ran, _ = trained(stage, tmp_path)
    assert ran == 2 * 34
    assert any("stored in bfloat16" in note for note in stage.notes)


@pytest.mark.parametrize("settings", [{"depth": 0}, {"epochs": 1}, {"max_steps": 3}, {"cache_limit": "0"}])
def test_nothing_is_stored_where_it_cannot_pay(settings, make_stage, tmp_path, monkeypatch):
    monkeypatch.setattr(prefix, "store_states", None)
    stage = make_stage(**settings)
    run_stage(stage, tmp_path, title="")
    assert not stage.notes


def test_a_stage_that_reads_texts_alone_keeps_its_token_ids(make_stage, tmp_path, monkeypatch):
    monkeypatch.setattr(prefix, "store_states", None)
    stage = make_stage(task=False)
    seen = []

    def objective(model, batch):
        seen.append(set(batch))
        return {"loss": model(**model_inputs(batch)).logits.square().mean()}

    run_stage(dataclasses.replace(stage, objective=objective), tmp_path, title="")
    assert all("input_ids" in names for names in seen)


# The setting


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("8GiB", 8 * 2**30), ("1.5 GB", 1_500_000_000), ("300mb", 300_000_000), ("12", 12), ("2TiB", 2**41)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "8 GiBs", "-1GiB", "8,5GB", "GiB", "nan"])
def test_other_sizes_are_refused(text):
    with pytest.raises(ConfigError, match=r"cache_limit: expected a size such as 8GiB, 500MB or 0; found"):
        from_table(TrainConfig, {"cache_limit": text}, "train.")


def test_sizes_are_shown_in_binary_units():
    assert [show_size(n) for n in (10, 1536, 3 * 2**20, 2.25 * 2**30, 2**42)] == [
        "10 B", "1.5 KiB", "3.0 MiB", "2.2 GiB", "4.0 TiB",
    ]  # fmt: skip


def test_token_tasks_keep_their_words_beside_the_states(rows, tokenizer):
    encoded = encode(rows([["a", "unhappy", "film"], ["good"]]), tokenizer, 24)
    stored = EncodedStates(encoded, np.zeros((encoded.offsets[-1], 2), np.int16), torch.float16)
    assert stored.counts.tolist() == encoded.counts.tolist() == [3, 1]
    assert stored.words(0).tolist() == [0, 1, 2]
    assert torch.equal(stored.batch([1, 0])["word_starts"], encoded.batch([1, 0])["word_starts"])
