"""``attar recommend`` from end to end, on a tiny encoder."""

import shlex

import pytest
from toy import call


def test_advice_as_json_and_as_a_table_names_commands_that_run(encoder, data, tmp_path):
    found = call("recommend", "--data", data, "--model", encoder, "--json")
    assert found.code == 0, found.err
    first = found.json["candidates"][0]
    assert found.json["facts"]["train"] == 128 and "few-labels" in [r["rule"] for r in found.json["rules"]]
    assert first["fits"] and first["estimate"]["seconds"]["basis"]
    words = shlex.split(first["commands"][-1])[1:-1]
    made = call(*words, tmp_path / "out", "--epochs", "1", "--json")
    assert made.code == 0, made.err


def test_an_impossible_limit_is_said_and_both_sides_missing_are_refused(encoder, data):
    found = call("recommend", "--data", data, "--model", encoder, "--max-size", "1kB")
    assert found.code == 0 and "NOT POSSIBLE" in found.out and "nearest" in found.out
    refused = call("recommend", "--data", data)
    assert refused.code == 2 and "--model" in refused.err


@pytest.mark.parametrize("flags", [("--max-size", "big"), ("--tasks", "0"), ("--probe-budget", "soon")])
def test_bad_flags_are_refused(encoder, data, flags):
    found = call("recommend", "--data", data, "--model", encoder, *flags)
    assert found.code == 2 and flags[0] in found.err
