"""Windowed attention against full attention under the same mask, receptive field, positions, and folders."""

import json
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, BertModel

from attar.errors import ConfigError, ModelError
from attar.nets import band, lean_attention
from attar.nets.anatomy import position_limit
from attar.nets.band import Band, BandBias, band_attention
from attar.nets.loading import fingerprint, load_encoder
from attar.nets.longer import describe_windows, is_windowed, lengthened, make_longer
from attar.nets.surgery import keep_layers

WINDOWED = ("bert", "roberta", "xlm-roberta", "mpnet", "electra", "distilbert")
LONG = 300


@pytest.fixture(params=WINDOWED)
def windowed_family(request):
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks as small as half the window."""
    monkeypatch.setattr(band, "MIN_BLOCK", 1)


def batch(length, rows=2, padding=0, seed=0):
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(seed))
    real = torch.ones_like(ids)
    if padding:
        real[-1, length - padding :] = 0
    return {"input_ids": ids, "attention_mask": real}


def full_attention(query, key, value, keep, window, n_global, bias=None):
    """The reference: scores of all pairs, a mask, a softmax; the words of the paper and nothing else."""
    length = query.shape[2]
    i, j = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    allowed = ((i - j).abs() <= window // 2) | (i < n_global) | (j < n_global)
    allowed = allowed | (keep.sum(-1) <= window)[:, None, None]
    allowed = allowed[:, None] & keep[:, None, None, :]
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    scores = scores if bias is None else scores + bias
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ value


def states(length, rows=2, heads=2, width=4, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(rows, heads, length, width, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("n_global", [1, 3])
@pytest.mark.parametrize(("length", "window"), [(40, 8), (41, 8), (47, 10), (33, 2), (12, 8), (8, 8), (9, 8), (1, 8)])
def test_equals_full_attention_under_the_same_mask(small_blocks, length, window, n_global):
    query, key, value = states(length)
    keep = torch.ones(2, length, dtype=torch.bool)
    keep[1, max(1, length - 5) :] = False
    found = band_attention(query, key, value, keep, Band(window=window, n_global=n_global))
    wanted = full_attention(query, key, value, keep, window, n_global)
    read = keep[:, None, :, None]
    assert torch.allclose(found * read, wanted * read, atol=1e-5)
    weights = torch.randn_like(wanted) * read
    ours = torch.autograd.grad((found * weights).sum(), (query, key, value))
    theirs = torch.autograd.grad((wanted * weights).sum(), (query, key, value))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_blocks_are_what_runs_on_long_texts_and_dense_products_on_short_ones():
    band = Band(window=256, n_global=1)
    assert [band.in_blocks(n) for n in (100, 256, 384, 385, 4096)] == [False, False, False, True, True]


def test_without_global_tokens_padding_makes_no_nan(small_blocks):
    query, key, value = states(40)
    keep = torch.ones(2, 40, dtype=torch.bool)
    keep[1, 10:] = False
    found = band_attention(query, key, value, keep, Band(window=4, n_global=0))
    assert found.isfinite().all()
    assert torch.allclose(found[1, :, :10], full_attention(query, key, value, keep, 4, 0)[1, :, :10], atol=1e-5)


def test_up_to_the_window_a_windowed_encoder_is_the_original(make_model, windowed_family):
    model = make_model(windowed_family, kind="single-label")
    long = make_longer(model, max_length=LONG, window=40)
    for length, padding in ((40, 0), (40, 11), (7, 2)):
        given = batch(length, padding=padding)
        with torch.no_grad():
            assert torch.allclose(long(**given).logits, model(**given).logits, atol=1e-5)


@pytest.mark.parametrize("length", [60, LONG])  # dense, and in blocks
def test_a_short_text_is_read_whole_whatever_it_is_batched_with(make_model, windowed_family, length):
    model = make_model(windowed_family, kind="single-label")
    long = make_longer(model, max_length=LONG, window=40)
    together = batch(length, padding=length - 33)
    alone = {name: tensor[1:, :33] for name, tensor in together.items()}
    with torch.no_grad():
        assert torch.allclose(long(**together).logits[1:], model(**alone).logits, atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_blocked_and_dense_agree_on_outputs_and_gradients(make_model, windowed_family, monkeypatch, own):
    long = make_longer(make_model(windowed_family), max_length=LONG, window=16, global_projections=own)
    given = batch(LONG, padding=70)
    read = given["attention_mask"][..., None]
    found = []
    for blocks in (3, 10**6):
        monkeypatch.setattr(band, "DENSE_BLOCKS", blocks)
        long.zero_grad()
        hidden = long(**given).last_hidden_state * read
        (hidden * torch.linspace(-1, 1, hidden.shape[-1])).sum().backward()
        grads = {name: p.grad.clone() for name, p in long.named_parameters() if p.grad is not None}
        found.append((hidden.detach(), grads))
    (blocked, one), (dense, other) = found
    assert torch.allclose(blocked, dense, atol=1e-4)
    assert one.keys() == other.keys()
    for name, grad in one.items():
        assert torch.allclose(grad, other[name], atol=1e-4, rtol=1e-3), name


def test_mpnet_reads_its_own_relative_positions(make_model, monkeypatch):
    """The blocks' scores by distance are those that transformers makes for the whole text."""
    long = make_longer(make_model("mpnet"), max_length=LONG, window=16)
    encoder, given = long.encoder, torch.zeros(1, LONG, 32)
    found = encoder.compute_position_bias(given)
    assert isinstance(found, BandBias)
    whole = super(type(encoder), encoder).compute_position_bias(given)[0]
    assert torch.equal(found.to_global, whole[:, :, :1])
    assert torch.equal(found.from_global, whole[:, :1])
    assert torch.equal(found.near, whole[:, 64:128, :192])


def test_padding_changes_nothing(make_model, windowed_family):
    long = make_longer(make_model(windowed_family), max_length=LONG, window=16)
    pad = 1 if windowed_family == "mpnet" else 0  # MPNetEmbeddings knows no other
    ids = batch(210, rows=1)["input_ids"]
    padded = torch.cat([ids, torch.full((1, 60), pad)], 1)
    real = torch.cat([torch.ones_like(ids), torch.zeros(1, 60, dtype=torch.long)], 1)
    with torch.no_grad():
        alone = long(input_ids=ids).last_hidden_state
        beside = long(input_ids=padded, attention_mask=real).last_hidden_state
    assert torch.allclose(alone, beside[:, :210], atol=1e-4)


@pytest.mark.parametrize("length", [60, 230])
def test_a_change_outside_the_receptive_field_changes_nothing(make_model, length):
    """Two layers that reach 8 tokens each: what is 16 away is seen, what is 17 away is not."""
    long = make_longer(make_model("bert"), max_length=LONG, window=16, global_tokens=0)
    given = batch(length, rows=1)
    other = given["input_ids"].clone()
    other[0, 30] = 4
    with torch.no_grad():
        before = long(**given).last_hidden_state[0]
        after = long(input_ids=other).last_hidden_state[0]
    changed = (before != after).any(-1).nonzero().flatten().tolist()
    assert min(changed) == 30 - 16
    assert max(changed) == 30 + 16


def test_a_global_token_sees_all_and_is_seen_by_all(make_model):
    long = make_longer(make_model("bert", layers=1), max_length=LONG, window=16)
    given = batch(230, rows=1)
    for place, seen in ((200, {0, *range(192, 209)}), (0, set(range(230)))):
        other = given["input_ids"].clone()
        other[0, place] = 4
        with torch.no_grad():
            difference = long(**given).last_hidden_state[0] - long(input_ids=other).last_hidden_state[0]
        assert set((difference != 0).any(-1).nonzero().flatten().tolist()) == seen


def test_positions_are_copies_and_offset_rows_stay(make_model, windowed_family):
    model = make_model(windowed_family)
    long = make_longer(model, max_length=200, window=16)
    old, new = (m.embeddings.position_embeddings.weight for m in (model, long))
    offset = {"roberta": 1, "xlm-roberta": 1, "mpnet": 2}.get(windowed_family, 0)
    assert len(new) == 200 + offset
    assert torch.equal(new[:offset], old[:offset])
    for place in range(200):
        assert torch.equal(new[offset + place], old[offset + place % (66 - offset)])
    assert position_limit(long) == 200


def test_global_projections_begin_as_the_local_ones_and_learn_apart(make_model, windowed_family):
    model = make_model(windowed_family)
    plain = make_longer(model, max_length=LONG, window=16)
    own = make_longer(model, max_length=LONG, window=16, global_projections=True)
    given = batch(200)
    with torch.no_grad():
        assert torch.allclose(plain(**given).last_hidden_state, own(**given).last_hidden_state, atol=1e-5)
    added = own.state_dict().keys() - plain.state_dict().keys()
    assert len(added) == 2 * 3 * 2  # layers, projections, weight and bias
    own(**given).last_hidden_state.square().sum().backward()
    assert all(own.get_parameter(name).grad.abs().sum() > 0 for name in added if not name.endswith("bias"))


@pytest.mark.parametrize("own", [False, True])
def test_a_folder_gives_the_same_model_back(make_model, windowed_family, tmp_path, own):
    for auto, kind in ((AutoModel, None), (AutoModelForSequenceClassification, "single-label")):
        model = make_model(windowed_family, kind=kind)
        long = make_longer(model, max_length=LONG, window=16, global_projections=own)
        long.save_pretrained(tmp_path / "long")
        again = auto.from_pretrained(tmp_path / "long").eval()
        assert type(again) is type(long)
        given = batch(230, padding=30)
        with torch.no_grad():
            assert torch.equal(long(**given)[0], again(**given)[0])


def test_a_folder_loads_without_attar(make_model, tmp_path):
    long = make_longer(make_model("mpnet"), max_length=LONG, window=16)
    long.save_pretrained(tmp_path / "long")
    with torch.no_grad():
        wanted = long(**batch(200)).last_hidden_state.sum().item()
    code = (
        "import sys, torch; from transformers import AutoModel; "
        "m = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval(); "
        "assert 'attar' not in sys.modules; "
        "g = torch.Generator().manual_seed(0); x = torch.randint(5, 60, (2, 200), generator=g); "
        "print(m(input_ids=x).last_hidden_state.sum().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "long")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(wanted, abs=1e-2)


def test_the_window_is_part_of_the_fingerprint(make_model, tokenizer, tmp_path):
    model = make_model("bert")
    for window in (16, 32):
        make_longer(model, max_length=LONG, window=window).save_pretrained(tmp_path / str(window))
        tokenizer.save_pretrained(tmp_path / str(window))
    assert fingerprint(str(tmp_path / "16")) != fingerprint(str(tmp_path / "32"))
    assert is_windowed(load_encoder(str(tmp_path / "16")))
    assert json.loads((tmp_path / "16" / "config.json").read_text())["attention_window"] == 16


def test_a_student_of_some_layers_keeps_the_windows(make_model):
    long = make_longer(make_model("bert", layers=4), max_length=LONG, window=16, global_projections=True)
    student = keep_layers(long, (0, 3))
    assert is_windowed(student)
    with torch.no_grad():
        out = student(**batch(200)).last_hidden_state
        long.encoder.layer = torch.nn.ModuleList([long.encoder.layer[0], long.encoder.layer[3]])
        assert torch.equal(out, long(**batch(200)).last_hidden_state)


def test_masked_language_models_keep_their_head_and_its_ties(make_model):
    base = make_model("bert")
    model = AutoModelForMaskedLM.from_config(base.config).eval()
    long = make_longer(model, max_length=LONG, window=16)
    assert long.get_output_embeddings().weight is long.get_input_embeddings().weight
    with torch.no_grad():
        assert torch.allclose(long(**batch(16)).logits, model(**batch(16)).logits, atol=1e-5)


def test_training_drops_attention_and_stays_finite(make_model, windowed_family):
    long = make_longer(make_model(windowed_family), max_length=LONG, window=16).train()
    long(**batch(230, padding=100)).last_hidden_state.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in long.parameters() if p.grad is not None)


@pytest.mark.parametrize("length", [60, 230])  # dense, and in blocks
def test_trains_leanly_on_a_cpu_with_the_same_numbers(make_model, windowed_family, monkeypatch, length):
    monkeypatch.setattr(lean_attention, "_BLOCK_SCORES", 0)
    drawn = []
    draw = lean_attention.draw_kept
    monkeypatch.setattr(lean_attention, "draw_kept", lambda shape, p: drawn.append(shape) or draw(shape, p))
    long = make_longer(make_model(windowed_family), max_length=LONG, window=16).train()
    for module in long.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1e-9  # next to nothing: both ways are to give the same
    given = batch(length, padding=20)
    read = given["attention_mask"][..., None]
    found = []
    for way in (nullcontext, lean_attention.lean_attention):
        assert not drawn
        long.zero_grad()
        with way(long):
            hidden = long(**given).last_hidden_state * read
        (hidden * torch.linspace(-1, 1, hidden.shape[-1])).sum().backward()
        found.append((hidden.detach(), [p.grad.clone() for p in long.parameters() if p.grad is not None]))
    assert drawn
    assert length < 192 or all(rows * columns < length**2 for *_, rows, columns in drawn)
    (plain, one), (lean, other) = found
    assert torch.allclose(plain, lean, atol=1e-5)
    for mine, theirs in zip(one, other, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4, rtol=1e-3)
    assert long.config._attn_implementation == "attar_windowed"


def test_lengthened_converts_once_and_only_where_asked(make_model):
    model = make_model("bert")
    assert lengthened(model, "chunks", LONG) is model
    long = lengthened(model, "windowed", LONG)
    assert is_windowed(long)
    assert lengthened(long, "windowed", LONG) is long
    assert describe_windows(model) == []
    assert "128 tokens to either side" in describe_windows(long)[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_length": 64, "window": 64}, "no shorter than texts of 64"),
        ({"max_length": 64, "window": 128}, "no shorter than texts of 64"),
        ({"max_length": 64, "window": 7}, "even number above 0, found 7"),
        ({"max_length": 64, "window": 0}, "even number above 0, found 0"),
        ({"max_length": 64, "window": 8, "global_tokens": 9}, "found 9"),
    ],
)
def test_refuses_windows_that_are_none(make_model, settings, says):
    with pytest.raises(ConfigError, match=says):
        make_longer(make_model("bert"), **settings)


@pytest.mark.parametrize(("other", "why"), [("deberta-v2", "code of its own"), ("modernbert", "windows already")])
def test_refuses_other_families_with_the_reason(make_model, other, why):
    with pytest.raises(ModelError, match=why):
        make_longer(make_model(other), max_length=LONG, window=16)


def test_refuses_what_is_windowed_already(make_model):
    long = make_longer(make_model("bert"), max_length=LONG, window=16)
    with pytest.raises(ModelError, match="windowed already"):
        make_longer(long, max_length=LONG, window=16)
    assert isinstance(long, BertModel)
