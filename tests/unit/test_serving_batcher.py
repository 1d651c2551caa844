"""Batches of many requests: filled, fair, bounded, and no row pays for another's failure."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from attar.inference.predictor import Prediction
from attar.serving.batcher import Batcher, QueueFull


def rows(n, name="task"):
    return [(name, str(i), None) for i in range(n)]


def said(row):
    return Prediction(f"{row[0]}-{row[1]}", 1.0, {})


class Held:
    """A scorer that notes its batches and waits for leave before each."""

    def __init__(self, held=True):
        self.batches, self.entered, self.leave = [], threading.Semaphore(0), threading.Semaphore(0)
        self.held = held

    def __call__(self, batch):
        self.batches.append(list(batch))
        self.entered.release()
        if self.held:
            assert self.leave.acquire(timeout=10)
        return [said(row) for row in batch]


@pytest.fixture
def start():
    """Start a batcher over a scorer; it is closed at the end."""
    open_now = []

    def _start(score, *, batch=8, wait=0.0, queue=100, **settings):
        batcher = Batcher(score, batch=batch, wait=wait, queue=queue, **settings)
        batcher.start()
        open_now.append((batcher, score))
        return batcher

    yield _start
    for batcher, score in open_now:
        if isinstance(score, Held):
            score.held = False
            score.leave.release(100)
        batcher.close()
        assert not batcher.alive


def labels(future):
    return [outcome.label for outcome in future.result(timeout=10).outcomes]


def test_what_waits_while_a_batch_runs_makes_the_next_one(start):
    score = Held()
    batcher = start(score)
    first = batcher.submit(rows(1, "first"))
    assert score.entered.acquire(timeout=10)
    others = [batcher.submit(rows(2, f"job{i}")) for i in range(3)]
    assert batcher.queued == 6
    score.leave.release(2)
    assert labels(first) == ["first-0"]
    assert [labels(other) for other in others] == [[f"job{i}-0", f"job{i}-1"] for i in range(3)]
    assert [len(batch) for batch in score.batches] == [1, 6]
    assert batcher.queued == 0


def test_an_idle_thread_waits_for_a_batch_to_fill_and_no_longer_than_told(start):
    score = Held(held=False)
    batcher = start(score, batch=3, wait=30.0)
    futures = [batcher.submit(rows(1, str(i))) for i in range(3)]
    assert [labels(future) for future in futures] == [["0-0"], ["1-0"], ["2-0"]]
    assert [len(batch) for batch in score.batches] == [3]
    patient = start(Held(held=False), batch=3, wait=0.01)
    answer = patient.submit(rows(1)).result(timeout=10)
    assert answer.waited >= 0.009


def test_a_large_request_does_not_hold_up_small_ones_behind_it(start):
    score = Held()
    batcher = start(score, batch=4)
    running = batcher.submit(rows(1, "running"))
    assert score.entered.acquire(timeout=10)
    large, small = batcher.submit(rows(20, "large")), batcher.submit(rows(1, "small"))
    score.leave.release(100)
    assert labels(small) == ["small-0"]
    assert labels(large) == [f"large-{i}" for i in range(20)]
    assert labels(running) == ["running-0"]
    assert ("small", "0", None) in score.batches[1]
    assert max(map(len, score.batches)) <= 4


def test_a_full_queue_says_when_to_come_back_and_has_room_again_later(start):
    score = Held()
    batcher = start(score, queue=4)
    running = batcher.submit(rows(1))
    assert score.entered.acquire(timeout=10)
    waiting = batcher.submit(rows(3))
    with pytest.raises(QueueFull) as full:
        batcher.submit(rows(2))
    assert 1 <= full.value.retry_after <= 60
    assert batcher.queued == 3
    score.leave.release(100)
    assert len(labels(running)) + len(labels(waiting)) == 4
    assert len(labels(batcher.submit(rows(4)))) == 4


def test_rows_of_a_cancelled_request_never_run_and_leave_their_room(start):
    score = Held()
    batcher = start(score, batch=2, queue=6)
    running = batcher.submit(rows(1))
    assert score.entered.acquire(timeout=10)
    dropped, kept = batcher.submit(rows(4, "dropped")), batcher.submit(rows(2, "kept"))
    assert dropped.cancel()
    assert batcher.queued == 2
    score.leave.release(100)
    assert labels(kept) == ["kept-0", "kept-1"]
    assert labels(running) == ["task-0"]
    assert not [row for batch in score.batches for row in batch if row[0] == "dropped"]
    with pytest.raises(CancelledError):
        dropped.result()


def test_the_rest_of_a_request_cancelled_while_it_runs_is_dropped(start):
    score = Held()
    batcher = start(score, batch=2)
    dropped = batcher.submit(rows(9, "dropped"))
    assert score.entered.acquire(timeout=10)
    assert dropped.cancel()
    assert batcher.queued == 0
    score.leave.release(100)
    assert labels(batcher.submit(rows(1, "next"))) == ["next-0"]
    assert sum(len(batch) for batch in score.batches) == 3


def test_the_thread_outlives_a_scorer_that_fails(start):
    def score(batch):
        if batch[0][0] == "bad":
            raise RuntimeError("broken")
        return [said(row) for row in batch]

    batcher = start(score)
    assert isinstance(batcher.submit(rows(1, "bad")).result(timeout=10).outcomes[0], RuntimeError)
    assert labels(batcher.submit(rows(1, "good"))) == ["good-0"]
    with pytest.raises(ZeroDivisionError):
        batcher.call(lambda: 1 / 0).result(timeout=10)
    assert batcher.call(lambda: 7).result(timeout=10) == 7


def test_calls_run_between_batches_on_the_same_thread(start):
    threads = []

    def score(batch):
        threads.append(threading.get_ident())
        return [said(row) for row in batch]

    batcher = start(score)
    batcher.submit(rows(1)).result(timeout=10)
    assert batcher.call(threading.get_ident).result(timeout=10) == threads[0] != threading.get_ident()


def test_closing_finishes_what_was_accepted_and_takes_no_more():
    def slow(batch):
        time.sleep(0.01)
        return [said(row) for row in batch]

    batcher = Batcher(slow, batch=2, wait=10.0, queue=100)
    batcher.start()
    futures = [batcher.submit(rows(3, str(i))) for i in range(5)]
    batcher.close()
    assert all(len(labels(future)) == 3 for future in futures)
    with pytest.raises(QueueFull):
        batcher.submit(rows(1))


def test_many_clients_at_once_each_get_their_own_answers(start):
    seen = []
    batcher = start(Held(held=False), batch=16, wait=0.001, queue=10_000, observe=lambda n, _: seen.append(n))

    def client(name):
        for n in range(1, 12):
            assert labels(batcher.submit(rows(n, name))) == [f"{name}-{i}" for i in range(n)]

    threads = [threading.Thread(target=client, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    time.sleep(0.01)
    assert batcher.queued == 0
    assert sum(seen) == 8 * sum(range(1, 12))
    assert max(seen) <= 16
