"""The numbers behind a run's charts, as the JSON that the page's script draws."""

from typing import Any

from attar.report import format as fmt
from attar.report.tables import comparison, headline_metrics, metric_of, metrics_of, split_of

#: A heat map with more labels than this is unreadable; it then shows those with the most mistakes.
MAX_LABELS = 30
_MAX_POINTS = 400
_NOT_LOSSES = {"step", "epoch", "lr", "learning_rate", "grad_norm", "seconds", "total_flos"}


def trade_offs(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a point a model for the charts of quality against speed and size."""
    return [
        {
            "role": row.role,
            "name": row.name,
            "quality": row.value,
            "speed": row.texts_per_second,
            "bytes": row.bytes,
            "said": {
                fmt.metric_name(row.metric): fmt.score(row.value),
                "texts a second": fmt.plain_rate(row.texts_per_second),
                "per text": fmt.millis(row.ms_per_text),
                "on disk": fmt.size(row.bytes),
                "parameters": fmt.count(row.parameters),
            },
        }
        for row in comparison(record)
    ]


def curves(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a chart's series for every stage that logged anything: the loss and its parts, the dev metrics."""
    wanted = {f"dev_{name}" for name in headline_metrics(record)}
    found = [_stage_view(stage, wanted) for stage in record.get("stages") or []]
    return [stage for stage in found if stage["losses"] or stage["dev"]]


def confusion(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return confusion matrices by model; None where no model has one."""
    labels, split = [str(label) for label in (record.get("task") or {}).get("labels") or []], split_of(record)
    matrices = []
    for model in record.get("models") or []:
        matrix = metrics_of(model, split).get("confusion")
        if matrix and len(matrix) == len(labels) and all(len(row) == len(labels) for row in matrix):
            matrices.append((str(model.get("role")), [[fmt.number(v) or 0 for v in row] for row in matrix]))
    if not matrices:
        return None
    shown = _most_mistaken(matrices[0][1])
    return {
        "labels": [labels[i] for i in shown],
        "of": len(labels),
        "models": [
            {"role": role, "rows": [[m[i][j] for j in shown] for i in shown], "totals": [sum(m[i]) for i in shown]}
            for role, m in matrices
        ],
        "pairs": _confused_pairs(matrices[0][1], labels),
    }


def calibration(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return reliability bins for the run's product and its teacher."""
    split, found = split_of(record), []
    models = record.get("models") or []
    for model in [m for i, m in enumerate(models) if i == 0 or m.get("role") == "teacher"]:
        bins = []
        for entry in metrics_of(model, split).get("calibration") or []:
            sure, right = fmt.number(entry.get("confidence")), fmt.number(entry.get("accuracy"))
            if sure is not None and right is not None and entry.get("count") != 0:
                bins.append({"confidence": sure, "accuracy": right, "count": entry.get("count")})
        if bins:
            ece = fmt.score(metric_of(model, split, "ece"))
            found.append({"role": str(model.get("role")), "ece": ece, "bins": bins})
    return found


def _stage_view(stage: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    points = [point for point in stage.get("curve") or [] if fmt.number(point.get("step")) is not None]
    keys = list(dict.fromkeys(key for point in points for key in point))
    losses = [key for key in keys if key not in _NOT_LOSSES and not key.startswith(("dev_", "eval_"))]
    losses.sort(key=lambda key: key != "loss")
    # A stage without a task has no metrics, and is judged by its losses.
    dev = sorted(key for key in keys if key in wanted) or sorted(key for key in keys if _is_dev_loss(key))
    series = {
        "losses": [_series(points, key, key.replace("_", " ")) for key in losses],
        "dev": [_series(points, key, fmt.metric_name(key.removeprefix("dev_"))) for key in dev],
    }
    drawn = {panel: [one for one in many if one["points"]] for panel, many in series.items()}
    return {"name": str(stage.get("name") or "stage"), "role": str(stage.get("role") or ""), **drawn}


def _is_dev_loss(key: str) -> bool:
    return key.startswith("dev_") and key.endswith("loss")


def _series(points: list[dict[str, Any]], key: str, name: str) -> dict[str, Any]:
    known = [[point["step"], fmt.number(point.get(key))] for point in points]
    known = [pair for pair in known if pair[1] is not None]
    stride = -(-len(known) // _MAX_POINTS) or 1
    # The last point is where training ended, so thinning may not drop it.
    kept = known[:-1:stride] + known[-1:]
    return {"name": name, "points": kept}


def _most_mistaken(matrix: list[list[float]]) -> list[int]:
    n = len(matrix)
    if n <= MAX_LABELS:
        return list(range(n))
    wrong = [sum(matrix[i]) + sum(row[i] for row in matrix) - 2 * matrix[i][i] for i in range(n)]
    return sorted(sorted(range(n), key=lambda i: -wrong[i])[:MAX_LABELS])


def _confused_pairs(matrix: list[list[float]], labels: list[str]) -> list[dict[str, str]]:
    n = len(matrix)
    cells = sorted(((matrix[i][j], i, j) for i in range(n) for j in range(n) if i != j), key=lambda c: -c[0])
    return [
        {
            "true": labels[i],
            "predicted": labels[j],
            "count": f"{value:,.0f}",
            "share": fmt.percent(value / sum(matrix[i])),
        }
        for value, i, j in cells[:8]
        if value > 0
    ]
