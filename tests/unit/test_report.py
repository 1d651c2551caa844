import copy
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from rich.console import Console

import attar.errors
from attar.errors import BundleError
from attar.records import new_record, write_record
from attar.report import format as fmt
from attar.report.costs import COSTS
from attar.report.losses import loss_rows
from attar.report.page import embed_json, write_page
from attar.report.predictions import MAX_ROWS, disagreements, read_predictions, value_points
from attar.report.summary import cautions, findings, summary
from attar.report.tables import comparison, render_terminal
from attar.report.view import run_view

HOSTILE = "<script>alert(1)</script>"


def speed(rate):
    return {"texts_per_second": rate, "ms_per_text": 1000 / rate, "batch_size": 32, "threads": 2, "device": "cpu"}


def classified(role, accuracy, rate, parameters, size, agreement=None):
    metrics = {
        "accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "ece": 0.04,
        "per_class": {"neg": {"precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 400}, "pos": {"f1": 0.9}},
        "confusion": [[380, 20], [40, 432]],
        "calibration": [
            {"confidence": 0.65, "accuracy": 0.6, "count": 100},
            {"confidence": 0.95, "accuracy": 0.9, "count": 772},
        ],
    }
    return {
        "role": role,
        "name": f"the-{role}",
        "parameters": parameters,
        "parameters_without_embeddings": parameters // 2,
        "bytes": size,
        "metrics": {"dev": {"accuracy": accuracy}, "test": metrics},
        "agreement": agreement,
        "speed": speed(rate),
    }


def single_label():
    record = new_record("distill", "student", {"command": "distill", "method": {"alpha": 0.5}, "model": None})
    record["task"] = {
        "kind": "single-label",
        "text": "review",
        "pair": None,
        "label": ["label"],
        "labels": ["neg", "pos"],
    }
    record["data"] = {"source": "reviews.csv", "rows": {"train": 6920, "test": 872}, "notes": ["cut a dev split"]}
    record["models"] = [
        classified("student", 0.90, 4100.0, 2_300_000, 9_200_000, agreement=0.94),
        classified("teacher", 0.925, 100.0, 23_100_000, 92_000_000),
        classified("labels-only", 0.86, 4100.0, 2_300_000, 9_200_000, agreement=0.9),
        classified("linear", 0.80, 9000.0, 40_000, 400_000, agreement=0.82),
    ]
    record["stages"] = [
        {
            "name": "distil",
            "role": "student",
            "seconds": 192.0,
            "curve": [
                {"step": 1, "loss": 1.0, "soft": 0.6},
                {"step": 9, "loss": 0.4, "soft": 0.2, "dev_accuracy": 0.9},
            ],
        }
    ]
    record["timings"] = {"score": 41.2, "train": 192.0}
    return record


def regression():
    record = single_label() | {"name": "scores"}
    record["task"] = {"kind": "regression", "text": "a", "pair": "b", "label": ["score"], "labels": ["score"]}
    for model in record["models"]:
        model["metrics"] = {
            "test": {"pearson": model["metrics"]["test"]["accuracy"], "spearman": 0.8, "mse": 0.4, "mae": 0.5}
        }
    return record


PREDICTIONS = {
    "text": ["a fine film", HOSTILE, 'it\'s "so" <b>dull</b> & long', "clear case"],
    "label": ["pos", "neg", "neg", "pos"],
    "student": ["pos", "pos", "neg", "neg"],
    "student_confidence": [0.9, 0.95, 0.6, 0.7],
    "teacher": ["pos", "neg", "pos", "pos"],
    "teacher_confidence": [0.9, 0.9, 0.6, None],
}
VALUES = {"text": ["a", "b", "c"], "pair": ["x", "y", "z"], "label": [1.0, 2.0, 3.0]} | {
    "student": [1.1, 2.9, 3.0],
    "teacher": [1.0, 2.0, float("nan")],
}


def save(record, folder, predictions=None):
    folder.mkdir()
    write_record(record, folder)
    if predictions:
        pyarrow.parquet.write_table(pyarrow.table(predictions), folder / "predictions.parquet")
    return folder


def embedded(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S).group(1))


def test_ratios_are_against_the_teacher():
    student, teacher, *_ = comparison(single_label())
    assert student.kept == pytest.approx(0.90 / 0.925)
    assert (student.speedup, student.size_ratio) == pytest.approx((41.0, 0.1))
    assert student.parameter_ratio == pytest.approx(2.3 / 23.1)
    assert (teacher.kept, teacher.speedup, teacher.size_ratio, teacher.agreement) == (None, None, None, None)


def test_dev_is_used_and_said_where_there_is_no_test():
    record = single_label()
    for model in record["models"]:
        del model["metrics"]["test"]
    assert comparison(record)[0].split == "dev"
    assert any("no test split" in sentence for sentence in cautions(record))


def test_summary_says_what_was_kept_and_gained():
    assert (
        summary(single_label()) == "The student keeps 97.3 % of the teacher's accuracy, 41× faster at 10 % of the size."
    )
    said = " ".join(findings(single_label()))
    assert "agree on 94.0 %" in said
    assert "distillation adds 4.0 points" in said
    assert "(872 texts)" in said
    assert "± 2.0 points" in said


def test_summary_of_a_regression_names_its_own_metric():
    assert "97.3 % of the teacher's Pearson r" in summary(regression())


def test_summary_of_a_slower_larger_or_better_student_says_so():
    record = single_label()
    record["models"][0] |= {"speed": speed(50.0), "bytes": 184_000_000}
    record["models"][0]["metrics"]["test"]["accuracy"] = 0.95
    assert summary(record) == "The student reaches 102.7 % of the teacher's accuracy, 2.0× slower at 2.0× the size."


def test_baselines_that_do_as_well_are_warned_of_after_the_runs_own_warnings():
    record = single_label() | {"warnings": ["The teacher was trained on dev."]}
    assert cautions(record) == ["The teacher was trained on dev."]
    record["models"][2]["metrics"]["test"]["accuracy"] = record["models"][3]["metrics"]["test"]["accuracy"] = 0.93
    said = cautions(record)
    assert said[0] == "The teacher was trained on dev."
    assert len(said) == 4


def test_speeds_measured_on_different_devices_are_warned_of():
    record = single_label()
    record["models"][1]["speed"]["device"] = "cuda"
    assert any("device differ" in sentence for sentence in cautions(record))


def test_finetune_without_a_teacher_has_a_summary():
    record = single_label() | {"command": "finetune"}
    record["models"] = [record["models"][1] | {"role": "tuned"}, record["models"][3]]
    assert summary(record) == "The tuned model reaches accuracy 0.925 on the test split."


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (fmt.count(23_100_000), "23.1 M"),
        (fmt.count(999_900), "1 M"),
        (fmt.size(92_000_000), "92 MB"),
        (fmt.size(438_000_000), "438 MB"),
        (fmt.size(512), "512 B"),
        (fmt.rate(1240.4), "1,240/s"),
        (fmt.millis(3.14), "3.1 ms"),
        (fmt.millis(0.083), "0.083 ms"),
        (fmt.seconds(192.0), "3 min 12 s"),
        (fmt.seconds(3599.9), "1 h 00 min"),
        (fmt.times(0.5), "0.5×"),
        (fmt.share(0.042), "4.2 %"),
        (fmt.score(fmt.number(float("nan"))), "–"),
    ],
)
def test_units_are_human(said, expected):
    assert said == expected


def test_terminal_table_fits_100_columns():
    record = single_label()
    record["models"][1] |= {"parameters": 334_000_000, "bytes": 1_340_000_000, "speed": speed(12_400.0)}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(render_terminal(record))
    text = console.export_text()
    assert "…" not in text
    assert "labels-only" in text
    assert "23.1 M" not in text
    assert "334 M" in text


def test_disagreements_are_ranked_by_confidence_and_say_who_is_right():
    found = disagreements(single_label(), PREDICTIONS)
    assert (found["total"], found["texts"]) == (3, 4)
    assert [row["right"] for row in found["rows"]] == ["teacher", "product", "teacher"]
    assert found["rows"][0]["text"] == HOSTILE
    assert found["rows"][2]["teacher_confidence"] is None


def test_disagreements_are_limited_and_keep_the_total():
    n = MAX_ROWS + 7
    columns = {"text": ["t"] * n, "label": ["pos"] * n, "student": ["neg"] * n, "teacher": ["pos"] * n}
    found = disagreements(single_label(), columns)
    assert (found["total"], len(found["rows"])) == (n, MAX_ROWS)


def test_label_ids_and_vectors_read_as_names():
    columns = {"text": ["t"], "label": [1], "student": [0], "teacher": [1]}
    assert disagreements(single_label(), columns)["rows"][0]["product"] == "neg"
    record = single_label()
    record["task"]["kind"] = "multi-label"
    columns = {"text": ["t"], "label": [[1.0, 1.0]], "student": [[0.0, 1.0]], "teacher": [["neg", "pos"]]}
    row = disagreements(record, columns)["rows"][0]
    assert (row["true"], row["product"], row["teacher"], row["right"]) == ("neg, pos", "pos", "neg, pos", "teacher")


def test_a_word_that_a_model_did_not_read_is_no_difference():
    record = single_label()
    record["task"]["kind"] = "token"
    columns = {"text": [["a", "b", "c"]] * 2, "label": [["O", "B", "O"]] * 2, "teacher": [["O", "B", "O"]] * 2}
    columns["student"] = [["O", "B", None], ["B", "B", None]]
    found = disagreements(record, columns)
    assert found["total"] == 1
    assert (found["rows"][0]["product"], found["rows"][0]["right"]) == ("B B –", "teacher")
    columns["student"], columns["teacher"] = [["O", "B", None]] * 2, [["B", "B", "O"]] * 2
    assert [row["right"] for row in disagreements(record, columns)["rows"]] == ["product"] * 2


def test_without_a_teacher_the_list_holds_the_models_own_mistakes():
    record = single_label()
    record["models"] = [record["models"][0] | {"role": "tuned"}]
    columns = {"text": ["a", "b"], "label": ["pos", "neg"], "tuned": ["pos", "pos"], "tuned_confidence": [0.9, 0.8]}
    found = disagreements(record, columns)
    assert (found["teacher"], [row["text"] for row in found["rows"]]) == (None, ["b"])


def test_regression_compares_values(tmp_path):
    found = disagreements(regression(), VALUES)
    assert [row["text"] for row in found["rows"]] == ["b", "a"]
    assert found["rows"][0]["right"] == "teacher"
    assert value_points(regression(), VALUES)["teacher"] == [[1.0, 1.0], [2.0, 2.0]]
    html = write_page([save(regression(), tmp_path / "run", VALUES)], tmp_path / "out.html").read_text()
    assert 'data-chart="values"' in html
    assert 'aria-label="Confusion matrix"' not in html


def test_hostile_text_is_escaped_everywhere(tmp_path):
    record = single_label() | {"name": HOSTILE, "warnings": [HOSTILE + "'\""]}
    record["task"]["labels"] = ["neg", HOSTILE]
    record["config"]["note"] = HOSTILE
    record["stages"][0]["name"] = record["data"]["notes"][0] = HOSTILE
    record["models"][0]["metrics"]["test"]["per_class"] = {HOSTILE: {"f1": 0.5}}
    for model in record["models"]:
        model["name"] = '"><img src=x onerror=alert(1)>'
    html = write_page([save(record, tmp_path / "run", PREDICTIONS)], tmp_path / "out.html").read_text()
    assert HOSTILE not in html
    assert "<img" not in html
    assert html.count("</script>") == 2
    texts = [row["text"] for row in embedded(html)["runs"]["run-1"]["disagreements"]["rows"]]
    assert set(texts) == {HOSTILE, PREDICTIONS["text"][2], "clear case"}


def test_embedded_json_cannot_end_its_element_and_reads_back():
    value = {"a": "</script><!--", "b": "'\"&\u2028\u2029", "c": "é"}
    assert not set("<>&\u2028\u2029") & set(embed_json(value))
    assert json.loads(embed_json(value)) == value
    assert embed_json("\ud800").encode("utf-8")


def test_page_loads_nothing_from_anywhere(tmp_path):
    html = write_page([save(single_label(), tmp_path / "run", PREDICTIONS)], tmp_path / "out.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<;]+", html)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"<link|\bsrc=(?!.none)|@import|url\(", html)
    assert len(html) < 200_000


def test_missing_values_are_dashes(tmp_path):
    bare = new_record("distill", "bare", {})
    broken = single_label()
    broken["models"] = [{"role": "student"}, {"role": "teacher", "metrics": None, "speed": None, "bytes": None}]
    broken["stages"] = [{"name": "s"}, {"curve": [{"step": None}, {"loss": 1.0}]}]
    not_numbers = copy.deepcopy(single_label())
    not_numbers["models"][0]["metrics"]["test"] |= {"accuracy": float("nan"), "confusion": None, "calibration": [{}]}
    not_numbers["data"] = {"rows": None, "length": {"text": {"p50": None}}}
    emptied = dict.fromkeys(bare) | {"schema": 1}
    runs = [save(record, tmp_path / f"{i}") for i, record in enumerate([bare, broken, not_numbers, emptied])]
    html = write_page(runs, tmp_path / "out.html").read_text()
    assert "–" in html
    assert "None" not in html
    assert embedded(html)["runs"]["run-3"]["trade_offs"][0]["quality"] is None
    for record in (bare, broken, not_numbers, emptied):
        render_terminal(record)


def test_several_runs_share_one_page_and_a_teacher_is_listed_once(tmp_path):
    first, second = single_label(), single_label() | {"name": "second"}
    runs = [save(first, tmp_path / "a", PREDICTIONS), save(second, tmp_path / "b") / "record.json"]
    html = write_page(runs, tmp_path / "deep" / "out.html").read_text()
    data = embedded(html)
    assert [point["label"] for point in data["overview"]["points"]] == ["student", "the-teacher", "second"]
    assert html.count('class="run"') == 3
    assert data["overview"]["caution"] == ""


def test_runs_on_other_data_are_cautioned(tmp_path):
    other = single_label() | {"data": {"fingerprint": "x"}}
    runs = [save(single_label(), tmp_path / "a"), save(other, tmp_path / "b")]
    assert "not comparable" in write_page(runs, tmp_path / "out.html").read_text()


def test_page_is_moved_into_place(tmp_path):
    run = save(single_label(), tmp_path / "run")
    out = tmp_path / "out.html"
    out.write_text("old")
    assert write_page([run], out) == out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "run"]
    (run / "record.json").write_text("{")
    before = out.read_text()
    with pytest.raises(BundleError):
        write_page([run], out)
    assert out.read_text() == before


def test_folder_without_record_and_other_bad_input_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"holds no record\.json"):
        write_page([tmp_path], tmp_path / "out.html")
    with pytest.raises(BundleError, match="at least one run"):
        write_page([], tmp_path / "out.html")
    with pytest.raises(BundleError, match="is a folder"):
        write_page([save(single_label(), tmp_path / "run")], tmp_path)
    (tmp_path / "run" / "predictions.parquet").write_text("no parquet")
    with pytest.raises(BundleError, match=r"predictions\.parquet"):
        read_predictions(tmp_path / "run")


def test_long_curves_are_thinned_and_keep_their_end():
    record = single_label()
    record["stages"][0]["curve"] = [{"step": i, "loss": 1 / (i + 1)} for i in range(5000)]
    points = run_view(record, {}, "run-1")["charts"]["curves"][0]["losses"][0]["points"]
    assert len(points) <= 402
    assert points[-1][0] == 4999


def test_many_classes_are_cut_to_those_with_the_most_mistakes():
    record, n = single_label(), 40
    matrix = [[10 if i == j else int(i == 39) for j in range(n)] for i in range(n)]
    record["task"]["labels"] = [f"c{i}" for i in range(n)]
    record["models"][0]["metrics"]["test"]["confusion"] = matrix
    found = run_view(record, {}, "run-1")["charts"]["confusion"]
    assert (len(found["labels"]), found["of"], found["labels"][-1]) == (30, 40, "c39")
    assert found["models"][0]["totals"][-1] == 49
    assert found["pairs"][0]["true"] == "c39"


def test_report_loads_no_torch():
    code = "import sys, attar.report.page; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(attar.errors.__file__).parents[1])


# Pre-training: losses and no models -----------------------------------------------------------------------------------


def pretrained():
    record = new_record("pretrain", "general", {"command": "pretrain", "method": {"name": "distilbert"}})
    record["stages"] = [
        {
            "name": "distil",
            "role": "pretrained",
            "seconds": 3.0,
            "curve": [
                {"step": 20, "epoch": 0.5, "loss": 9.0, "soft_loss": 1.0, "mlm_loss": 2.0},
                {"step": 40, "epoch": 1.0, "dev_loss": 6.0, "dev_soft_loss": 0.5, "dev_mlm_loss": 1.0},
                {"step": 60, "epoch": 1.5, "loss": 5.0, "soft_loss": 0.4, "mlm_loss": float("nan")},
                {"step": 80, "epoch": 2.0, "dev_loss": 7.0, "dev_soft_loss": 0.6, "dev_mlm_loss": 3.0},
            ],
        }
    ]
    return record


def test_every_term_of_a_pretraining_is_a_row_of_the_best_epoch():
    rows = {row.name: row for row in loss_rows(pretrained())}
    assert list(rows) == ["loss", "mlm loss", "soft loss", "perplexity of masked words"]
    assert (rows["loss"].first, rows["loss"].training, rows["loss"].held_out) == (9.0, 5.0, 6.0)
    assert rows["mlm loss"].training == 2.0  # the last that was a number
    assert rows["perplexity of masked words"].held_out == pytest.approx(2.71828, abs=1e-4)


def test_a_record_of_a_pretraining_is_summed_up_and_drawn(tmp_path):
    record = pretrained()
    assert summary(record).startswith("On the held-out documents: loss 6.000, mlm loss 1.000")
    view = run_view(record, {}, "run-1")
    assert (view["rows"], view["charts"]["trade_offs"]) == ([], [])
    assert [one["name"] for one in view["charts"]["curves"][0]["dev"]] == ["loss", "mlm loss", "soft loss"]
    text = io.StringIO()
    Console(file=text, width=100).print(render_terminal(record))
    assert "perplexity of masked words" in text.getvalue()
    write_record(record, tmp_path)
    assert "held-out documents" in write_page([tmp_path], tmp_path / "page.html").read_text()


def test_what_pretraining_brought_is_a_sentence():
    record = single_label()
    record["models"].append({**copy.deepcopy(record["models"][0]), "role": "no-pretraining"})
    record["models"][-1]["metrics"]["test"]["accuracy"] = record["models"][0]["metrics"]["test"]["accuracy"] - 0.02
    assert any("cut from the teacher" in line and "pre-training adds 2.0 points" in line for line in findings(record))


def test_losses_of_a_pretraining_are_beside_the_models_of_a_run_that_began_with_one(tmp_path):
    record = single_label()
    record["stages"] = [*pretrained()["stages"], *record["stages"]]
    write_record(record, tmp_path)
    page = write_page([tmp_path], tmp_path / "page.html").read_text()
    assert "Losses of the training on texts alone" in page
    assert "measured on the test split" in page


# Many runs, comparisons, slices ---------------------------------------------------------------------------------------


def tuned(name, accuracy, *, seed=0, method="lora", source="reviews.csv"):
    record = single_label() | {"name": name, "command": "finetune"}
    record["config"] = {"command": "finetune", "method": {"name": method}, "train": {"seed": seed}}
    record["models"] = [classified("tuned", accuracy, 100.0, 23_000_000, 92_000_000)]
    record["stages"] = [{"name": method, "role": "tuned", "moving": 75_000, "seconds": 9.0, "curve": []}]
    record["data"] = record["data"] | {"source": source, "fingerprint": "f"}
    return record


def answers(n=40):
    texts = [" ".join(["word"] * (i + 1)) for i in range(n)]
    said = ["pos" if i < n // 2 else "neg" for i in range(n)]
    return {"text": texts, "label": ["pos"] * n, "tuned": said, "tuned_confidence": [0.9] * n}


def test_points_of_many_runs_carry_costs_and_what_they_are_chosen_by(tmp_path):
    runs = [save(tuned(f"lora-{s}", 0.8 + s / 100, seed=s), tmp_path / str(s), answers()) for s in range(3)]
    html = write_page(runs, tmp_path / "out.html").read_text()
    overview = embedded(html)["overview"]
    first = overview["points"][0]
    assert (first["ms_per_text"], first["bytes"], first["train_seconds"]) == (10.0, 92e6, 192.0)
    assert (first["trained_parameters"], first["method"], first["seed"]) == (75_000, "lora", "0")
    assert list(overview["costs"]) == ["ms_per_text", "bytes", "train_seconds", "trained_parameters"]
    assert 'data-facet="seed"' in html
    assert 'data-facet="method"' not in html  # one value leaves nothing to choose
    assert html.count('data-seed="1"') == 2  # in the table of runs, and in that of slices


def test_quality_by_length_is_of_the_texts_in_the_slice():
    view = run_view(tuned("a", 0.5), answers(), "run-1")["slices"]
    assert [row["cells"][0]["text"] for row in view["rows"]] == ["1.000", "1.000", "0.000", "0.000"]
    assert [row["texts"] for row in view["rows"]] == ["10", "10", "10", "10"]
    assert view["rows"][0]["slice"] == "up to 10 words"
    assert run_view(tuned("a", 0.5), answers(6), "run-1")["slices"] is None
    alike = answers() | {"text": ["same length"] * 40}
    assert run_view(tuned("a", 0.5), alike, "run-1")["slices"] is None


def test_quality_by_length_of_a_regression_is_an_error():
    values = {"text": [" ".join("w" * (i + 1)) for i in range(40)], "label": [1.0] * 40, "student": [1.5] * 40}
    view = run_view(regression(), values, "run-1")["slices"]
    assert view["metric"] == "mean absolute error"
    assert {row["cells"][0]["text"] for row in view["rows"]} == {"0.500"}


def test_many_runs_carry_fewer_texts_each(tmp_path):
    columns = answers(200) | {"label": ["neg"] * 200, "tuned": ["pos"] * 200}
    runs = [save(tuned(f"r{i}", 0.8), tmp_path / str(i), columns) for i in range(50)]
    html = write_page(runs, tmp_path / "out.html").read_text()
    rows = [len(run["disagreements"]["rows"]) for run in embedded(html)["runs"].values()]
    assert rows == [40] * 50


def test_a_comparison_opens_its_finished_runs(tmp_path):
    folder = tmp_path / "grid"
    (folder / "runs").mkdir(parents=True)
    save(tuned("lora-0", 0.8), folder / "runs" / "lora-0", answers())
    spread = {"mean": 0.8, "std": None}
    method = {"label": HOSTILE, "seeds": [0], "quality": spread, **{cost: spread for cost in COSTS}}
    runs = [
        {"label": "lora", "seed": 0, "folder": "runs/lora-0", "status": "done"},
        {"label": "full", "seed": 0, "folder": "runs/full-0", "status": "failed", "error": HOSTILE},
    ]
    record = {
        "schema": 1,
        "name": "grid",
        "metric": "accuracy",
        "splits": {"same": True, "seed": 0, "judged_on": "test"},
        "runs": runs,
        "methods": [method],
        "differences": [{"a": "x", "b": "y", "difference": 0.1, "low": 0.0, "high": 0.2, "p_holm": 0.2}],
        "fronts": {cost: [HOSTILE] for cost in COSTS},
    }
    (folder / "comparison.json").write_text(json.dumps(record))
    html = write_page([folder], tmp_path / "out.html").read_text()
    assert list(embedded(html)["runs"]) == ["run-1"]
    assert "methods compared" in html
    assert "full, seed 0: failed" in html
    assert HOSTILE not in html
    (folder / "comparison.json").write_text(json.dumps(record | {"runs": runs[1:]}))
    with pytest.raises(BundleError, match="no finished run"):
        write_page([folder], tmp_path / "out.html")


def test_a_teacher_that_is_a_run_of_the_page_is_shown_once(tmp_path):
    student = single_label()
    student["models"][1] |= {"name": "grid/runs/full-0"}
    runs = [save(tuned("full-0", 0.925, method="full"), tmp_path / "a"), save(student, tmp_path / "b")]
    points = embedded(write_page(runs, tmp_path / "out.html").read_text())["overview"]["points"]
    assert [point["label"] for point in points] == ["full-0", "student"]
