"""TinyBERT augmentation: candidates in length-sorted batches against one word at a time, in one run.

    python benchmarks/augmentation.py --data DATA --model FOLDER [--dataset movie_reviews] [--texts 200]

The slow way is a loop over words: the text is encoded with the word masked, the whole model runs on that one row, and
the likeliest words are taken from its logits. Like the authors' script it asks once for each word of a text;
Algorithm 1 to the letter asks again for each of the N_a versions; that figure is computed, not run. Both ways use the
precision that the machine has natively, and their candidates are compared. They take turns over parts of the texts, so
that a drift of the machine's speed meets both; processor time is reported too, which a busy machine changes less. A
folder without a masked-language-model head gets a random one, which costs the same time; the result says so.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import arguments, write_result
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.augment.masked_lm import masked_lm_candidates
from attar.augment.pieces import Cut, cut_texts
from attar.data.readers import read_splits
from attar.data.texts import TextSource
from attar.nets.hardware import autocast, pick_device, resolve_precision
from attar.nets.loading import load_masked_lm, load_tokenizer
from attar.nets.vocabulary import whole_words

N_CANDIDATES = 15
N_ITER = 20
MAX_LENGTH = 128
PARTS = 2


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", required=True, help="masked language model, or an encoder for a random head")
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--texts", type=int, default=200)
    args = parser.parse_args()
    texts = read_splits(str(args.data / args.dataset))["train"]["text"][: args.texts]
    with tempfile.TemporaryDirectory() as folder:
        model, random_head = with_head(args.model, folder)
        found = measure(model, texts, Path(folder))
    settings = {
        "model": Path(args.model).name,
        "random_head": random_head,
        "dataset": args.dataset,
        "texts": len(texts),
        "n_candidates": N_CANDIDATES,
        "max_length": MAX_LENGTH,
        "precision": resolve_precision(pick_device(), "auto"),
    }
    print(f"{write_result('augmentation', settings, found)}")


def with_head(name: str, folder: str) -> tuple[str, bool]:
    torch.manual_seed(0)
    model, stored = load_masked_lm(name)
    if stored:
        return name, False
    model.save_pretrained(f"{folder}/mlm")
    load_tokenizer(name).save_pretrained(f"{folder}/mlm")
    return f"{folder}/mlm", True


def measure(name: str, texts: list[str], folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(name)
    model = load_masked_lm(name)[0].eval().to(pick_device())
    known = whole_words(tokenizer)
    batched(name, tokenizer, ["A film to warm up with."], folder)
    one_at_a_time(model, tokenizer, ["A film to warm up with."], known)
    wall, cpu = {"batched": 0.0, "one": 0.0}, {"batched": 0.0, "one": 0.0}
    words = same = 0
    for part in range(PARTS):
        some = texts[part::PARTS]
        found = {}
        for way, call in (
            ("batched", lambda some=some: batched(name, tokenizer, some, folder)),
            ("one", lambda some=some: one_at_a_time(model, tokenizer, some, known)),
        ):
            start = time.perf_counter(), time.process_time()
            found[way] = call()
            wall[way] += time.perf_counter() - start[0]
            cpu[way] += time.process_time() - start[1]
        ours, theirs = found["batched"], found["one"]
        words += len(theirs)
        same += sum(a == b for a, b in zip(ours, theirs, strict=True))
    result = {
        "masked_words": words,
        "words_with_the_same_candidates": same,
        "batched_words_per_second": words / wall["batched"],
        "one_at_a_time_words_per_second": words / wall["one"],
        "ratio": wall["one"] / wall["batched"],
        "ratio_of_processor_time": cpu["one"] / cpu["batched"],
        "ratio_to_asking_for_every_version_computed": N_ITER * wall["one"] / wall["batched"],
    }
    print(f"{words} masked words, {same} with the same candidates, {torch.get_num_threads()} threads")
    print(f"batched {result['batched_words_per_second']:.1f} words/s, model loading and cache included")
    print(f"one word at a time {result['one_at_a_time_words_per_second']:.1f} words/s")
    print(f"ratio {result['ratio']:.2f}, of processor time {result['ratio_of_processor_time']:.2f}")
    return result


def batched(name: str, tokenizer: PreTrainedTokenizerBase, texts: list[str], cache: Path) -> list[list[int]]:
    """What ``attar augment --method tinybert`` does, from texts to candidates in an empty cache."""
    os.environ["ATTAR_CACHE"] = tempfile.mkdtemp(dir=cache)
    source = TextSource([Dataset.from_dict({"text": texts})])
    found = masked_lm_candidates(source, tokenizer, model=name, n=N_CANDIDATES, max_length=MAX_LENGTH)
    return [] if found is None else found.take(range(len(texts))).astype(int).tolist()


def one_at_a_time(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], known: dict[int, str]
) -> list[list[int]]:
    """One forward pass of the whole model a masked word, as a loop over Algorithm 1 does it."""
    found = []
    for text in texts:
        (cut,) = cut_texts([text], tokenizer)
        found += [likeliest(model, tokenizer, cut, place, known) for _, place in cut.single]
    return found


def likeliest(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cut: Cut, place: int, known: dict[int, str]
) -> list[int]:
    ids = [tokenizer.cls_token_id, *cut.ids.tolist(), tokenizer.sep_token_id]
    ids[place + 1] = tokenizer.mask_token_id
    inputs = torch.tensor([ids], device=model.device)
    with torch.inference_mode(), autocast(model.device, "auto"):
        logits = model(inputs, attention_mask=torch.ones_like(inputs)).logits[0, place + 1].float()
    ranked = logits.topk(min(len(logits), 20 * N_CANDIDATES)).indices.tolist()
    return sorted([i for i in ranked if i in known][:N_CANDIDATES])


if __name__ == "__main__":
    main()
