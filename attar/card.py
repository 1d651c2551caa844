"""The model card of a bundle: README.md in the hub's format, with the run's own figures."""

import json
from pathlib import Path
from typing import Any

from attar.methods.registry import METHODS
from attar.records import DELTA_FILE, write_text
from attar.sizes import show_size

#: What the hub calls a task, and the metrics that it has a name for.
_PIPELINES = {"token": "token-classification"}
_HUB_METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "entity_f1": "f1",
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "mse": "mse",
    "mae": "mae",
}


def write_card(record: dict[str, Any], folder: Path) -> None:
    """Write ``README.md`` from the record."""
    task = record["task"]
    model = record["models"][0]
    method = record["config"]["method"]["name"]
    labels = f"{', '.join(task['labels'][:20])}{' …' if len(task['labels']) > 20 else ''}"
    body = [
        f"# {record['name']}",
        "",
        f"Made by `attar {record['command']}` with method `{method}`{_origin(record)}. Labels: {labels}.",
        "",
        *_table(record),
        "",
        *_costs(record),
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
    write_text("\n".join([*_front_matter(record, folder), *body]), folder / "README.md")


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


def _front_matter(record: dict[str, Any], folder: Path) -> list[str]:
    """Return the card's YAML. Strings are written as JSON, which is YAML whatever they hold."""
    kind, split = record["task"]["kind"], _split(record)
    known = {name: value for name, value in _plain(record["models"][0], split).items() if name in _HUB_METRICS}
    pipeline = _PIPELINES.get(kind, "text-classification")
    source = str(record["data"]["source"])
    base, data = _on_hub(record["config"].get("model")), _on_hub(source)
    short = Path(source).name or source
    lines = [
        "---",
        "# license: yours to choose, such as apache-2.0",
        f"library_name: {'attar' if (folder / DELTA_FILE).exists() else 'transformers'}",
        f"pipeline_tag: {pipeline}",
        *([f"base_model: {_text(base)}"] if base else []),
        *(["datasets:", f"- {_text(data)}"] if data else []),
        *("tags:", "- attar", f"- {kind}"),
        *("metrics:", *(f"- {name}" for name in dict.fromkeys(_HUB_METRICS[name] for name in known))),
        *("model-index:", f"- name: {_text(record['name'])}", "  results:", "  - task:", f"      type: {pipeline}"),
        *(
            "    dataset:",
            f"      type: {_text(data or short)}",
            f"      name: {_text(short)}",
            f"      split: {split}",
        ),
        "    metrics:",
    ]
    for name, value in known.items():
        lines += [f"    - type: {_HUB_METRICS[name]}", f"      name: {name.replace('_', ' ')}", f"      value: {value}"]
    return [*lines, "---", ""]


def _origin(record: dict[str, Any]) -> str:
    """Return what the model comes from."""
    config = record["config"]
    if config.get("model"):
        return f" from `{config['model']}`"
    teacher = (config.get("teacher") or {}).get("bundles") or []
    return f" from {'the teacher' if len(teacher) == 1 else 'teachers'} `{', '.join(teacher)}`" if teacher else ""


def _on_hub(name: Any) -> str | None:
    """Return a name that can only be one of the hub: a folder or file of this machine means nothing to others."""
    text = str(name or "")
    local = not text or text.startswith((".", "/", "~")) or text.count("/") > 1 or Path(text).exists()
    return None if local or Path(text).suffix in (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".gz") else text


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _split(record: dict[str, Any]) -> str:
    return "test" if "test" in record["models"][0]["metrics"] else "dev"


def _plain(model: dict[str, Any], split: str) -> dict[str, float]:
    return {name: value for name, value in model["metrics"].get(split, {}).items() if isinstance(value, float)}


def _table(record: dict[str, Any]) -> list[str]:
    split = _split(record)
    names = list(_plain(record["models"][0], split))
    lines = [f"Measured on {split}:", "", f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for model in record["models"]:
        values = [model["metrics"].get(split, {}).get(name) for name in names]
        cells = ["–" if v is None else f"{v:.4f}" for v in values]
        lines.append(f"| {model['role']} | {' | '.join(cells)} |")
    return lines


def _costs(record: dict[str, Any]) -> list[str]:
    """Return size and speed of the compared models as a table; hardware decides the speed, so it is named."""
    hardware = record.get("hardware") or {}
    where = f", measured on {hardware['cpu']}" if hardware.get("cpu") else ""
    lines = [f"Size and speed{where}:", "", "| model | on disk | texts a second | per text |", "|---|---|---|---|"]
    for model in record["models"]:
        speed = model.get("speed") or {}
        size = show_size(model["bytes"]) if model["bytes"] is not None else "–"
        rate = f"{speed['texts_per_second']:,.0f}" if speed else "–"
        per_text = f"{speed['ms_per_text']:.3g} ms" if speed else "–"
        lines.append(f"| {model['role']} | {size} | {rate} | {per_text} |")
    return lines
