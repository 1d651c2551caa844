"""The command line. Every command lives in its own short file; nothing heavy is imported before it runs."""

import logging
import os
import sys

import typer

from attar.cli import (
    augment,
    bench,
    compare,
    demo,
    distill,
    evaluate,
    export,
    finetune,
    longer,
    merge,
    predict,
    pretrain,
    push,
    recommend,
    report,
    run,
    serve,
)
from attar.errors import AttarError
from attar.process_group import is_main

app = typer.Typer(
    name="attar",
    help="Make Transformer text encoders small (distil) and cheap to tune.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order in which a user meets them: decide, make, judge, deploy.
for _command in (
    demo.demo,
    recommend.recommend,
    finetune.finetune,
    distill.distill,
    pretrain.pretrain,
    longer.longer,
    augment.augment,
    merge.merge,
    run.run,
    compare.compare,
    evaluate.evaluate,
    report.report,
    predict.predict,
    export.export,
    bench.bench,
    serve.serve,
    push.push,
):
    app.command()(_command)


def main() -> None:
    """Run a command: exit 0 when the work is done, 2 for what the user can mend, 130 for Ctrl-C."""
    _quiet_libraries()
    _log_to_stderr()
    try:
        app()
    except AttarError as error:
        if is_main():
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns a Ctrl-C inside a command into SystemExit(130).
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        resumable = {"finetune", "distill", "pretrain", "run", "predict", "compare"} & set(sys.argv)
        hint = "; the same command with --resume continues" if resumable else ""
        print(f"\ninterrupted{hint}", file=sys.stderr)
        sys.exit(130)


def _quiet_libraries() -> None:
    """Keep other libraries' bars and banners off the terminal; attar shows its own. Set before they are imported."""
    for name, value in {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "true",
    }.items():
        os.environ.setdefault(name, value)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(message)s"))
    logger = logging.getLogger("attar")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if is_main() else logging.ERROR)


class _PlainFormatter(logging.Formatter):
    """Notes as they are; warnings marked, so that nobody overlooks them."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"WARNING: {text}" if record.levelno >= logging.WARNING else text
