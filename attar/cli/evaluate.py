"""``attar evaluate``."""

import json as jsonlib
from typing import Annotated

import typer

from attar.cli import options as o


def evaluate(
    bundle: Annotated[str, typer.Argument(help="Bundle or fine-tuned transformers folder.")],
    data: o.Data,
    split: Annotated[str, typer.Option(help="train, dev or test; a single file is all test.")] = "test",
    text: o.Text = None,
    pair: o.Pair = None,
    label: o.Label = None,
    drop_bad_rows: o.DropBadRows = False,
    json: o.Json = False,
) -> None:
    """Score a model on labelled texts.

    Example: attar evaluate student --data reviews/ --split test
    """
    from attar.config import DataConfig
    from attar.evaluate import evaluate_bundle

    config = DataConfig(path=data, text=text, pair=pair, label=tuple(label or ()), drop_bad_rows=drop_bad_rows)
    found = evaluate_bundle(bundle, config, split)
    if json:
        print(jsonlib.dumps(found, ensure_ascii=False))
        return
    print(f"{bundle} on {found['rows']:,} rows ({found['split']})")
    for name, value in found["metrics"].items():
        if isinstance(value, float):
            print(f"  {name:<18}{value:.4f}")
    for name, row in found["metrics"].get("per_class", {}).items():
        print(f"  {name:<18}P {row['precision']:.3f}  R {row['recall']:.3f}  F1 {row['f1']:.3f}  n {row['support']}")
