"""The bundles of a benchmark as a table."""

from typing import Any

from rich.table import Table

from attar.sizes import show_size


def bench_table(found: dict[str, Any]) -> Table:
    """Return one row a bundle of what :func:`attar.bench.bench.bench` found."""
    first = found["bundles"][0]
    title = f"{found['texts']}; {first['threads']} threads, {found['hardware']['cpu']}"
    table = Table(title=title, title_justify="left")
    for name in ("bundle", "engine"):
        table.add_column(name)
    for name in ("ms p50", "p90", "p99", "tokenizer", "engine", "texts/s", "tokenizer/s", "engine/s", "batch"):
        table.add_column(name, justify="right")
    for name in ("size", "memory"):
        table.add_column(name, justify="right")
    for one in found["bundles"]:
        latency, rate = one["latency"], one["throughput"]
        table.add_row(
            one["bundle"],
            f"{one['engine']} {one['precision']}",
            *(f"{latency[name]:.2f}" for name in ("p50", "p90", "p99", "tokenizer", "engine")),
            *(f"{rate[name]:,.0f}" for name in ("total", "tokenizer", "engine")),
            f"{rate['tokens_per_batch']:,}",
            show_size(one["bytes"]),
            show_size(one["memory"]["model"]),
        )
    table.caption = "latency at batch 1 in ms; texts a second at the best batch (in tokens); from raw text"
    return table
