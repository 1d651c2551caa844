"""Pre-training, the main path on texts alone: config → texts → plan → train → encoder and record."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from attar.card import write_pretrained_card
from attar.config import PretrainConfig, PretrainRun, dump_toml
from attar.data.corpus import Corpus, open_documents, read_corpus, write_corpus
from attar.methods.contract import PretrainContext
from attar.methods.registry import plan_of
from attar.nets.hardware import describe_hardware, keep_few_kernels
from attar.nets.saving import save_model
from attar.process_group import barrier, is_main
from attar.recipe import recipe_table
from attar.records import RECIPE_FILE, new_record, read_record, write_record, write_text
from attar.stages import run_stages
from attar.workspace import Workspace, is_finished

log = logging.getLogger("attar")

#: The role of what it leaves, and its folder in the work folder.
ROLE = "pretrained"


def pretrain(config: PretrainRun, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
    """Leave an encoder at ``config.out``, an ordinary transformers folder, and return the record.

    Raises:
        AttarError: for everything that the user can mend, before anything is written where that can be known.
    """
    recipe = dump_toml(recipe_table(config))
    if resume and not overwrite and is_finished(config.out, recipe):
        log.info("already done: %s", config.out)
        return read_record(config.out)
    with Workspace(config.out, recipe, resume=resume, overwrite=overwrite) as work:
        return _run(config, recipe, work)


def _run(config: PretrainRun, recipe: str, work: Workspace) -> dict[str, Any]:
    keep_few_kernels()
    record = new_record("pretrain", Path(config.out).name, recipe_table(config))
    record["hardware"] = describe_hardware()
    documents = open_documents(config.text)
    work.start()
    start = time.perf_counter()
    found = run_pretraining(config, documents, work, config.report_to)
    # This process's clock misses what those before a resumption trained; the stages know.
    trained = sum(stage["seconds"] for stage in found["stages"])
    record["timings"]["train"] = round(max(time.perf_counter() - start, trained), 2)
    record.update(found)
    folder = work.folder / ROLE
    if is_main():
        write_text(recipe, folder / RECIPE_FILE)
        write_record(record, folder)
        write_pretrained_card(record, folder)
    work.finish(folder)
    return record


def run_pretraining(
    config: PretrainConfig, documents: Sequence[Dataset], work: Workspace, report_to: Sequence[str]
) -> dict[str, Any]:
    """Run the stages of a pre-training; the last one's model is saved in the work folder, under :data:`ROLE`.

    Returns:
        ``{"stages", "data"}`` as the record keeps them.
    """
    facts: dict[str, Any] = {}

    def corpus(tokenizer: PreTrainedTokenizerBase) -> Corpus:
        found = _corpus(config, documents, tokenizer, work.folder / "corpus")
        facts.update(found.facts)
        return found

    def make() -> dict[str, Any]:
        context = PretrainContext(teacher=config.teacher, train=config.train, corpus=corpus)
        stages, last = run_stages(ROLE, plan_of(config.method)(context), work, report_to)
        if is_main():
            save_model(last.model, last.tokenizer, work.folder / ROLE)
        return {"stages": stages, "data": _facts(config, facts, stages)}

    return work.step(ROLE, make)


def _corpus(
    config: PretrainConfig, documents: Sequence[Dataset], tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Corpus:
    """Return the encoded texts; they are encoded once a run, by the first process."""
    if is_main() and not folder.exists():
        write_corpus(documents, config.text, tokenizer, config.train.max_length, folder)
    barrier()
    return read_corpus(folder, tokenizer.pad_token_id or 0)


def _facts(config: PretrainConfig, facts: dict[str, Any], stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    notes = list(dict.fromkeys(note for stage in stages for note in stage["notes"]))
    return {"source": ", ".join(config.text.paths), "notes": notes, **facts}
