import gzip
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from attar.data.formats import convert
from attar.data.readers import read_splits, read_texts
from attar.errors import CacheError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("ATTAR_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def write(tmp_path):
    def _write(name, content):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True, parents=True)
        data = content if isinstance(content, bytes) else content.encode()
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(file)

    return _write


ROWS = [{"text": "fine", "label": "pos"}, {"text": "dull, long", "label": "neg"}]

SAME_ROWS = {
    "a.csv": 'text,label\nfine,pos\n"dull, long",neg\n',
    "bom.csv": b"\xef\xbb\xbftext,label\nfine,pos\n" + b'"dull, long",neg\n',
    "blank_lines.csv": 'text,label\r\n\r\nfine,pos\r\n\r\n"dull, long",neg',
    "semicolons.csv": "text;label\nfine;pos\ndull, long;neg\n",
    "a.csv.gz": 'text,label\nfine,pos\n"dull, long",neg\n',
    "a.tsv": "text\tlabel\nfine\tpos\ndull, long\tneg\n",
    "quoted.tsv": '"text"\t"label"\n"fine"\t"pos"\n"dull, long"\tneg\n',
    "a.json": json.dumps(ROWS),
    "indented.json": json.dumps(ROWS, indent=2),
    "inside.json": json.dumps({"version": 3, "rows": ROWS, "authors": ["a", "b", "c"]}),
    "columns.json": json.dumps({"text": ["fine", "dull, long"], "label": ["pos", "neg"]}),
    "lines.json": "\n".join(map(json.dumps, ROWS)),
    "a.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "a.ndjson.gz": "\n".join(map(json.dumps, ROWS)),
}


@pytest.mark.parametrize("name", SAME_ROWS)
def test_every_format_gives_the_same_rows(write, name):
    assert read_splits(write(name, SAME_ROWS[name]))["train"].to_list() == ROWS


def test_parquet_keeps_types_and_label_names(tmp_path):
    features = Features({"text": Value("large_string"), "label": ClassLabel(names=["no", "yes"])})
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(tmp_path / "a.parquet")
    found = read_splits(str(tmp_path / "a.parquet"))["train"]
    assert found.features["label"].names == ["no", "yes"]
    assert found.features["text"] == Value("string")


def test_parquet_categories_become_strings(tmp_path):
    table = pa.table({"text": ["a", "b"], "label": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_splits(str(tmp_path / "a.parquet"))["train"]["label"] == ["x", "y"]


def test_csv_cells_stay_text(write):
    found = read_splits(write("a.csv", "text,label\nNA,01\nnull,\n"))["train"]
    assert found.to_list() == [{"text": "NA", "label": "01"}, {"text": "null", "label": ""}]


def test_quoted_newlines_and_doubled_quotes(write):
    found = read_splits(write("a.csv", 'text,label\n"one\ntwo ""three""",pos\n'))["train"]
    assert found["text"] == ['one\ntwo "three"']


def test_tsv_with_lone_quotes_keeps_every_line(write):
    found = read_splits(write("a.tsv", 'text\tlabel\n"so it began\t1\nan end"\t0\n"say ""hi"""\t1\n'))["train"]
    assert found["text"] == ['"so it began', 'an end"', 'say "hi"']


def test_tsv_with_quoted_tabs(write):
    assert read_splits(write("a.tsv", 'text\tlabel\n"a\nb\tc"\t0\n'))["train"]["text"] == ["a\nb\tc"]


def test_cell_longer_than_a_block(write):
    long = "word " * 1_000_000
    assert read_splits(write("a.csv", f'text,label\n"{long}",pos\n'))["train"]["text"] == [long]


def test_types_that_drift_are_widened(write, monkeypatch):
    monkeypatch.setattr("attar.data.formats.json_format.BATCH_ROWS", 2)
    rows = [{"text": "a", "y": None}, {"text": "b", "y": 1}, {"y": 2, "z": [1]}, {"text": "d", "y": 0.5, "z": [0.5]}]
    found = read_splits(write("a.jsonl", "\n".join(map(json.dumps, rows))))["train"]
    assert found["y"] == [None, 1.0, 2.0, 0.5]
    assert found["text"] == ["a", "b", None, "d"]
    assert found["z"] == [None, None, [1.0], [0.5]]


def test_nested_objects_do_not_disturb(write):
    rows = [{"text": "a", "meta": {"id": 1}}, {"text": "b", "meta": {"id": "x"}}]
    assert read_splits(write("a.jsonl", "\n".join(map(json.dumps, rows))))["train"]["meta"][1] == '{"id": "x"}'


def test_json_values_across_window_borders(write, monkeypatch):
    monkeypatch.setattr("attar.data.formats.json_stream._STEP", 7)
    rows = [{"text": "é\n" * i, "n": i * 1000, "ok": True, "list": [None, -1.5e3]} for i in range(40)]
    for indent in (None, 1):
        assert read_splits(write(f"{indent}.json", json.dumps(rows, indent=indent)))["train"].to_list() == rows


BAD = {
    "empty.csv": ("", ["empty file"]),
    "empty.csv.gz": ("", ["line 1", "header"]),
    "header.csv": ("text,label\n", ["found none"]),
    "twice.csv": ("text,text\na,b\n", ["line 1", "'text' twice"]),
    "ragged.csv": ('text,label\n"a\nb",1\n\nc\n', ["line 5", "expected 2 columns (text, label), found 1"]),
    "wide.csv": ("text,label\na,b,c\n", ["line 2", "found 3"]),
    "open.csv": ('text,label\na,1\n"b,2\nc,3\n', ["line 3", "quote"]),
    "open_last.csv": ('text,label\na,1\nb,"2\nc,3\n', ["line 3", "quote"]),
    "ragged.tsv": ("text\tlabel\na\tb\nc\n", ["line 3", "expected 2 columns"]),
    "latin.csv": (b'text,label\n"a\nb",1\ncaf\xe9,1\n', ["line 4", "UTF-8", "0xe9"]),
    "latin.jsonl": (b'{"text": "a"}\n{"text": "caf\xe9"}\n', ["line 2", "UTF-8"]),
    "utf16.csv": ("text,label\na,b\n".encode("utf-16"), ["UTF-16", "convert"]),
    "broken.jsonl": ('{"text": "a"}\n\n{"text": \n', ["line 3", "JSON"]),
    "array.jsonl": ("[1]\n", ["line 1", "found a list"]),
    "kinds.jsonl": ('{"y": 1}\n{"y": "x"}\n', ["line 2", "expected a number in column 'y'", "found a string: x"]),
    "lists.jsonl": ('{"y": ["a"]}\n{"y": [1]}\n', ["line 2", "a list of strings", "a list of numbers"]),
    "huge.jsonl": ('{"y": 1}\n{"y": 99999999999999999999}\n', ["line 2", "'y'"]),
    "surrogate.jsonl": ('{"y": "\\ud83d"}\n', ["line 1", "'y'"]),
    "broken.json": ('[{"text": "a"},\n{"text" "b"}]', ["line 2", "':'"]),
    "cut.json": ('[{"text": "a"},\n{"text": "b"}', ["line 2", "the end of the file"]),
    "tail.json": ('[{"text": "a"}]\n\nmore', ["line 3", "more text"]),
    "none.json": ("[]", ["found none"]),
    "one.json": ('{"text": "a"}', ["list of objects"]),
    "deep.json": ('[{"text": ' + "[" * 100_000 + "]" * 100_000 + "}]", ["line 1", "nested too deeply"]),
    "deep.jsonl": ('{"text": "a"}\n{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", ["line 2", "nested too deeply"]),
    "digits.jsonl": ('{"text": "a"}\n{"text": ' + "1" * 5000 + "}\n", ["line 2", "too many digits"]),
    "keys.json": ('{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "2": 0}}', ["different keys", "text, label"]),
    "uneven.json": ('{"text": ["a", "b"], "label": [1]}', ["text 2, label 1"]),
    "a.parquet": ("no parquet", ["Parquet"]),
    "a.xlsx": ("x", ["'.xlsx'", "CSV"]),
    "a.txt": ("only text", ["plain text"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_its_line_and_leaves_nothing(write, cache, name):
    content, expected = BAD[name]
    file = write(name, content)
    with pytest.raises(DataError) as caught:
        read_splits(file)
    message = str(caught.value)
    assert file in message
    assert "\n" not in message
    for part in expected:
        assert part in message
    assert not list(cache.rglob("*.*"))


def test_damaged_gzip(tmp_path, cache):
    whole = gzip.compress(b"".join(b"text %d,1\n" % (i * i) for i in range(2000)))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text,label\n") + whole[:-20])
    with pytest.raises(DataError, match="gzip"):
        read_splits(str(tmp_path / "a.csv.gz"))
    assert not list(cache.rglob("*.*"))


def test_conversion_happens_once_and_again_for_a_changed_file(write, cache, monkeypatch):
    file = write("a.csv", "text,label\na,1\n")
    read_splits(file)
    with monkeypatch.context() as patch:
        patch.setattr(convert, "_convert", lambda *_: pytest.fail("converted twice"))
        assert read_splits(file)["train"]["text"] == ["a"]
    write("a.csv", "text,label\nchanged,1\n")
    assert read_splits(file)["train"]["text"] == ["changed"]


def test_several_convert_at_once(write, cache):
    file = write("a.jsonl", "\n".join(json.dumps({"text": f"t{i}"}) for i in range(3000)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(read_splits(file)["train"][2999])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"text": "t2999"}] * 4
    assert len(list(cache.rglob("*.*"))) == 1


def test_cache_that_cannot_be_written(write, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file, no folder")
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "blocked"))
    with pytest.raises(CacheError, match="ATTAR_CACHE"):
        read_splits(write("a.csv", "text,label\na,1\n"))


def test_folder_of_splits(write, tmp_path):
    write("d/train.csv", "text,label\na,1\n")
    write("d/validation.jsonl", '{"text": "b", "label": 1}')
    write("d/test.tsv.gz", "text\tlabel\nc\t1\n")
    write("d/README.md", "not data")
    found = read_splits(str(tmp_path / "d"))
    assert {name: rows["text"][:] for name, rows in found.items()} == {"train": ["a"], "dev": ["b"], "test": ["c"]}


def test_folder_of_shards_as_the_hub_lays_it_out(tmp_path):
    (tmp_path / "d" / "data").mkdir(parents=True)
    for i in (1, 0):
        pq.write_table(pa.table({"text": [f"t{i}"]}), tmp_path / "d" / "data" / f"train-0000{i}-of-00002.parquet")
    assert read_splits(str(tmp_path / "d"))["train"]["text"] == ["t0", "t1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["reviews.csv"], "expected train.csv"),
        (["train.csv", "train.jsonl"], "train.csv and train.jsonl"),
        (["train.csv", "dev.csv", "validation.csv"], "dev.csv and validation.csv"),
        (["train.csv", "train-1.csv"], "one file a split"),
    ],
)
def test_folder_that_is_not_clear(write, tmp_path, names, expected):
    for name in names:
        write(f"d/{name}", '{"text": "a"}' if name.endswith("jsonl") else "text\na\n")
    with pytest.raises(DataError, match=expected):
        read_splits(str(tmp_path / "d"))


def test_shards_with_other_columns(write, tmp_path):
    write("d/train-0.csv", "text,label\na,1\n")
    write("d/train-1.csv", "text,class\na,1\n")
    with pytest.raises(DataError, match=r"train-1.csv: expected the columns .*text, label"):
        read_splits(str(tmp_path / "d"))


def test_missing_file_names_the_nearest(write, tmp_path):
    write("reviews.csv", "text,label\na,1\n")
    with pytest.raises(DataError, match=r"no such file or folder: .*did you mean 'reviews.csv'"):
        read_splits(str(tmp_path / "review.csv"))
    with pytest.raises(DataError, match="there is no folder"):
        read_splits(str(tmp_path / "nowhere" / "a.csv"))


def test_hub_name_without_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.load_dataset", lambda *_: (_ for _ in ()).throw(ConnectionError("offline\nmore")))
    with pytest.raises(DataError) as caught:
        read_splits("some/name")
    expected = "no such file or folder: some/name, and it could not be loaded as a hub dataset: offline; check the name"
    assert str(caught.value) == expected


def test_hub_splits_get_our_names(monkeypatch):
    rows = Dataset.from_dict({"text": ["a"]})
    calls = []
    monkeypatch.setattr(
        "datasets.load_dataset", lambda *a: calls.append(a) or {"train": rows, "validation": rows, "unsupervised": rows}
    )
    assert sorted(read_splits("glue:sst2")) == ["dev", "train"]
    assert calls == [("glue", "sst2")]


def test_plain_texts(write):
    file = write("a.txt.gz", "\ufefffirst  \n\n   \nsecond\r\nthird\u2028still third")
    assert read_texts(file)["text"] == ["first", "second", "third\u2028still third"]
    with pytest.raises(DataError, match="line 2"):
        read_texts(write("b.txt", b"fine\ncaf\xe9\n"))


def test_texts_of_a_folder(write, tmp_path):
    write("d/1.txt", "a\n")
    write("d/2.txt", "b\n")
    assert read_texts(str(tmp_path / "d"))["text"] == ["a", "b"]
    write("d/train.csv", "text,label\nc,1\n")
    assert read_texts(str(tmp_path / "d"))["text"] == ["c"]


def test_columns_by_row_key_are_joined_by_it(write):
    """As pandas writes a table, whatever the order of the keys."""
    rows = read_splits(write("a.json", '{"text": {"0": "a", "1": "b"}, "label": {"1": "y", "0": "x"}}'))["train"]
    assert rows[:] == {"text": ["a", "b"], "label": ["x", "y"]}


def test_parquet_columns_that_no_dataset_holds(tmp_path):
    maps = pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64()))
    pq.write_table(pa.table({"meta": maps, "text": ["a", "b"]}), tmp_path / "a.parquet")
    assert read_splits(str(tmp_path / "a.parquet"))["train"][:] == {"text": ["a", "b"]}
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(DataError, match="text twice"):
        read_splits(str(tmp_path / "b.parquet"))
