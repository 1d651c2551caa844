"""Tiny encoders and data files, and the command line called as a person calls it; for this folder's tests."""

import contextlib
import io
import json
import logging
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

GOOD = ["great", "superb", "lovely", "brilliant", "charming", "witty", "moving", "fresh"]
BAD = ["awful", "boring", "dull", "terrible", "clumsy", "stale", "tedious", "bland"]
NAMES = ["anna", "paris", "bob", "rome", "carol", "london"]
PLAIN = "the a film story acting music scene was is with very and of it this really in went to".split()  # noqa: SIM905
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,"

#: Settings under which the tiny encoder learns the toy tasks in a second or two.
FAST = ("--lr", "5e-3", "--batch-size", "16", "--max-length", "24")


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)


def save_encoder(folder: Path, *, layers: int = 2, seed: int = 0, dropout: float = 0.1) -> str:
    """Write a randomly initialised BERT with a WordPiece tokenizer and return its folder."""
    words = [*GOOD, *BAD, *NAMES, *PLAIN]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *LETTERS, *(f"##{c}" for c in LETTERS)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def reviews(n: int, seed: int = 0) -> dict:
    """Return short texts whose label is the sign of their one adjective."""
    rng = random.Random(seed)
    texts, labels = [], []
    for i in range(n):
        words = rng.choices(PLAIN, k=rng.randint(2, 7))
        words.insert(rng.randint(0, len(words)), rng.choice(BAD if i % 2 else GOOD))
        texts.append(" ".join(words))
        labels.append("neg" if i % 2 else "pos")
    return {"text": texts, "label": labels}


def write_rows(path: Path, table: dict) -> str:
    """Write columns as the format that the name says, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_dict(table)
    writers = {".csv": rows.to_csv, ".jsonl": rows.to_json, ".parquet": rows.to_parquet}
    writers[path.suffix](str(path), **({"index": False} if path.suffix == ".csv" else {}))
    return str(path)


def call(*arguments: object) -> Result:
    """Run ``attar ARGUMENTS`` in this process, through its real entry point."""
    from attar.cli.main import main

    logger = logging.getLogger("attar")
    before = (sys.argv, logger.handlers[:], logger.level)
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["attar", *map(str, arguments)]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv, logger.handlers[:], logger.level = before
    assert isinstance(code, int)
    return Result(code, out.getvalue(), err.getvalue())


def start(*arguments: object, cwd: Path, cache: Path, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start ``python -m attar ARGUMENTS`` as a process of its own, in float32 as here."""
    environment = {**os.environ, "ATTAR_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", *launcher, "attar_float32", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def near(one: object, other: object) -> bool:
    """Tell whether two nested objects of JSON are the same, their numbers but for the order of sums."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(near, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-5)
    return one == other
