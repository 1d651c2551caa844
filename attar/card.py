"""The model card of a bundle: README.md in the hub's format, with the run's own figures."""

from pathlib import Path
from typing import Any

from attar.methods.registry import METHODS
from attar.records import write_text


def write_card(record: dict[str, Any], folder: Path) -> None:
    """Write ``README.md`` from the record."""
    task = record["task"]
    head = ["---", "library_name: transformers", "tags:", "- attar", f"- {task['kind']}", "---", ""]
    model = record["models"][0]
    method = record["config"]["method"]["name"]
    body = [
        f"# {record['name']}",
        "",
        f"Made by `attar {record['command']}` with method `{method}`. "
        f"Labels: {', '.join(task['labels'][:20])}{' …' if len(task['labels']) > 20 else ''}.",
        "",
        *_table(record),
        "",
        "```python",
        "import attar",
        "",
        f'model = attar.load("{record["name"]}")',
        'model.predict(["…"])' if not task["pair"] else 'model.predict(["…"], ["…"])',
        "```",
        "",
        f"Parameters: {model['parameters']:,} ({model['parameters_without_embeddings']:,} without embeddings). "
        "`recipe.toml` makes the model again; `record.json` has every figure, `attar report` shows them.",
        "",
    ]
    write_text("\n".join(head + body), folder / "README.md")


def write_pretrained_card(record: dict[str, Any], folder: Path) -> None:
    """Write ``README.md`` of an encoder that was pre-trained."""
    config = record["config"]
    stage = record["stages"][-1]
    last = {k: v for point in stage["curve"] for k, v in point.items() if k.startswith("dev_")}
    has_head = "ForMaskedLM" in (folder / "config.json").read_text(encoding="utf-8")
    use = "fill-mask" if has_head else "feature-extraction"
    method = config["method"]["name"] if config["method"]["name"] in METHODS else "distilbert"
    lines = [
        *("---", "library_name: transformers", f"pipeline_tag: {use}", "tags:", "- attar", "---", ""),
        f"# {record['name']}",
        "",
        f"Made by `attar pretrain` with method `{config['method']['name']}` from the teacher `{config['teacher']}`.",
        "",
        *(f"- {note}" for note in record["data"]["notes"]),
        "",
        "| on the held-out documents | |",
        "|---|---|",
        *(f"| {name.removeprefix('dev_').replace('_', ' ')} | {value:.4f} |" for name, value in last.items()),
        "",
        f"A student for a task: `attar distill --method {method} --student {record['name']} …`; an encoder to "
        f"fine-tune: `attar finetune --model {record['name']} …`. `recipe.toml` makes it again.",
        "",
    ]
    write_text("\n".join(lines), folder / "README.md")


def _table(record: dict[str, Any]) -> list[str]:
    split = "test" if "test" in record["models"][0]["metrics"] else "dev"
    names = [n for n, v in record["models"][0]["metrics"][split].items() if isinstance(v, float)]
    lines = [f"Measured on {split}:", "", f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for model in record["models"]:
        values = [model["metrics"][split].get(name) for name in names]
        cells = ["–" if v is None else f"{v:.4f}" for v in values]
        lines.append(f"| {model['role']} | {' | '.join(cells)} |")
    return lines
