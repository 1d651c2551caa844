"""What a run came to, in sentences: what was kept, what was gained, and what a reader should be warned of."""

import math
from typing import Any

from attar.report import format as fmt
from attar.report.losses import loss_rows
from attar.report.tables import ComparisonRow, comparison, find_role

_SPEED_SETTINGS = ("device", "precision", "threads", "batch_size")


def summary(record: dict[str, Any]) -> str:
    """Return the one sentence that leads the page."""
    rows = comparison(record)
    if not rows:
        return _losses(record) or "This run recorded no models."
    product, teacher = rows[0], _find(rows, "teacher")
    metric = fmt.metric_name(product.metric)
    if teacher is None or teacher is product:
        if product.value is None:
            return f"This run recorded no {metric} for the {_the(product)}."
        return f"The {_the(product)} reaches {metric} {fmt.score(product.value)} on the {product.split} split."
    if product.kept is None:
        return f"This run does not tell how much of the teacher's {metric} the {_the(product)} keeps."
    verb = "keeps" if product.kept <= 1 else "reaches"
    gains = _speed_words(product.speedup) + _size_words(product.size_ratio)
    return f"The {_the(product)} {verb} {fmt.percent(product.kept)} of the teacher's {metric}{gains}."


def findings(record: dict[str, Any]) -> list[str]:
    """Return the sentences under the summary: the numbers behind it and what the baselines say."""
    rows = comparison(record)
    if not rows:
        return []
    product, teacher = rows[0], _find(rows, "teacher")
    found = []
    if teacher and teacher is not product and product.value is not None:
        found.append(_absolute(record, product, teacher))
    if product.agreement is not None:
        found.append(_agreement(record, product))
    found += _baselines(rows)
    margin = margin_note(record)
    return [*found, margin] if margin else found


def cautions(record: dict[str, Any]) -> list[str]:
    """Return the run's own warnings, then what its numbers warn of."""
    rows = comparison(record)
    found = [str(warning) for warning in record.get("warnings") or []]
    if not rows:
        return found
    product, teacher, linear = rows[0], _find(rows, "teacher"), _find(rows, "linear")
    if product.split == "dev":
        found.append("There is no test split: these numbers come from the dev split, which also chose the best epoch.")
    if _no_better(product, _find(rows, "labels-only")):
        found.append("Distillation did not help here: the same student does as well on the labels alone.")
    if _no_better(product, linear):
        found.append(f"The TF-IDF linear model is as good as the {_the(product)} or better, and costs far less to run.")
    if teacher is not product and _no_better(teacher, linear):
        found.append("The teacher is no better than a TF-IDF linear model, so there is little to distil.")
    if differing := _speed_differences(record):
        found.append(f"Speeds were not measured alike ({', '.join(differing)} differ): do not compare them.")
    return list(dict.fromkeys(found))


def speed_note(record: dict[str, Any]) -> str:
    """Return how the speed of the run's own product was measured."""
    speed = ((record.get("models") or [{}])[0].get("speed") or {}) if record.get("models") else {}
    words = {"device": "on {}", "precision": "in {}", "threads": "{} threads", "batch_size": "batches of {}"}
    said = [words[key].format(speed[key]) for key in _SPEED_SETTINGS if speed.get(key) is not None]
    return f"Speed measured {', '.join(said)}." if said else ""


def margin_note(record: dict[str, Any]) -> str:
    """Return how exactly an accuracy is known from this many texts, for single-label tasks."""
    rows, n = comparison(record), _n_texts(record)
    if not rows or rows[0].metric != "accuracy" or (record.get("task") or {}).get("kind") != "single-label":
        return ""
    value = rows[0].value
    if value is None or not n or not 0 <= value <= 1:
        return ""
    margin = 1.96 * math.sqrt(value * (1 - value) / n)
    return f"On {n:,} texts an accuracy like this is known to about ± {100 * margin:.1f} points (95 %)."


def _losses(record: dict[str, Any]) -> str:
    rows = loss_rows(record)
    said = ", ".join(f"{row.name} {fmt.score(row.held_out)}" for row in rows)
    return f"On the held-out documents: {said}." if rows else ""


def _absolute(record: dict[str, Any], product: ComparisonRow, teacher: ComparisonRow) -> str:
    n, metric = _n_texts(record), fmt.metric_name(product.metric)
    texts = f" ({n:,} texts)" if n else ""
    head = metric[:1].upper() + metric[1:]
    return (
        f"{head} on the {product.split} split{texts}: {fmt.score(product.value)} for the {_the(product)}, "
        f"{fmt.score(teacher.value)} for the teacher."
    )


def _agreement(record: dict[str, Any], product: ComparisonRow) -> str:
    if (record.get("task") or {}).get("kind") == "regression":
        return f"Agreement between {_the(product)} and teacher is {fmt.score(product.agreement)}."
    return f"{_the(product).capitalize()} and teacher agree on {fmt.percent(product.agreement)} of the answers."


def _baselines(rows: list[ComparisonRow]) -> list[str]:
    product, alone, linear = rows[0], _find(rows, "labels-only"), _find(rows, "linear")
    found = []
    cut = _find(rows, "no-pretraining")
    if cut and cut.value is not None and product.value is not None:
        gain = 100 * (product.value - cut.value)
        found.append(
            f"The same distillation into a student cut from the teacher reaches {fmt.score(cut.value)}: "
            f"pre-training {'adds' if gain >= 0 else 'costs'} {abs(gain):.1f} points."
        )
    if alone and alone.value is not None and product.value is not None:
        gain = 100 * (product.value - alone.value)
        verb = "adds" if gain >= 0 else "costs"
        found.append(
            f"The same student trained on the labels alone reaches {fmt.score(alone.value)}: "
            f"distillation {verb} {abs(gain):.1f} points."
        )
    if linear and linear.value is not None and linear is not product:
        found.append(f"A TF-IDF linear model reaches {fmt.score(linear.value)}.")
    return found


def _speed_words(speedup: float | None) -> str:
    if speedup is None or speedup <= 0:
        return ""
    if speedup >= 1.05:
        return f", {fmt.times(speedup)} faster"
    return f", {fmt.times(1 / speedup)} slower" if speedup <= 0.95 else ", just as fast"


def _size_words(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f" at {fmt.share(ratio)} of the size" if ratio < 1 else f" at {fmt.times(ratio)} the size"


def _no_better(row: ComparisonRow | None, baseline: ComparisonRow | None) -> bool:
    if row is None or baseline is None or row is baseline or row.value is None or baseline.value is None:
        return False
    return row.value <= baseline.value


def _speed_differences(record: dict[str, Any]) -> list[str]:
    """Return the settings in which the product's and the teacher's speed were measured differently.

    The batch size and precision may differ on purpose (each at its best); the device and threads may not.
    """
    models = record.get("models") or []
    teacher = find_role(models, "teacher")
    own, other = models[0].get("speed") or {}, (teacher or {}).get("speed") or {}
    return [key for key in ("device", "threads") if own.get(key) and other.get(key) and own[key] != other[key]]


def _n_texts(record: dict[str, Any]) -> int | None:
    rows = (record.get("data") or {}).get("rows") or {}
    split = comparison(record)[0].split if record.get("models") else "test"
    found = fmt.number(rows.get(split))
    return int(found) if found else None


def _find(rows: list[ComparisonRow], role: str) -> ComparisonRow | None:
    return next((row for row in rows if row.role == role), None)


def _the(row: ComparisonRow) -> str:
    return {"tuned": "tuned model", "linear": "linear model"}.get(row.role, row.role)
