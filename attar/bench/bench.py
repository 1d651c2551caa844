"""Several bundles side by side, on the same texts."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from attar.bench.measure import measure_bundle
from attar.bench.texts import bench_texts
from attar.nets.hardware import describe_hardware


def bench(
    bundles: Sequence[str], *, data: str | None = None, lengths: str | None = None, encoder: str | None = None
) -> dict[str, Any]:
    """Measure bundles one after another, each in a process of its own, so that memory is each one's.

    Args:
        bundles: bundles, transformers folders, deltas or exported models.
        data: the user's texts.
        lengths: instead, words a text (:func:`attar.bench.texts.bench_texts`).
        encoder: for deltas, where their encoder is now.

    Returns:
        ``texts`` (where they are from), ``hardware``, and ``bundles``
        (:func:`attar.bench.measure.measure_bundle`).
    """
    texts, pairs, where = bench_texts(bundles[0], data, lengths)
    found = []
    for path in bundles:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(measure_bundle, path, texts, pairs, encoder=encoder).result())
    return {"texts": where, "hardware": describe_hardware(), "bundles": found}
