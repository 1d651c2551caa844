"""Documents are true: links lead somewhere, commands parse, settings exist, code compiles, nothing is left out."""

import ast
import dataclasses
import functools
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer.main

import attar
from attar.cli import execute
from attar.cli.main import app
from attar.config import PretrainRun, RunConfig, TrainConfig, override
from attar.methods.registry import METHODS, PRETRAINING
from attar.recipe import config_of

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "attar").rglob("README.md"),
    ]
)
#: Pages that say how attar is used, together.
USE = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def name(path):
    return str(path.relative_to(ROOT))


def blocks(path, *languages):
    """The fenced blocks of a document, without their indentation."""
    found = FENCE.findall(path.read_text())
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in found if kind in languages]


def prose(path):
    return FENCE.sub("", path.read_text())


def anchors(path):
    """The names that a hub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines():
    """Every `attar ...` command of a block or a code span that has arguments, each with its document."""
    for path in DOCUMENTS:
        lines = "\n".join(blocks(path, "sh", "bash", "console")).replace("\\\n", " ").splitlines()
        lines += re.findall(r"(?<!`)`(attar [^`]+ [^`]+)`", prose(path))
        for line in lines:
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if "-m" in words and words[words.index("-m") + 1 :][:1] == ["attar"]:
                words = words[words.index("-m") + 1 :]
            if words[:1] == ["attar"] and "--help" not in words and "…" not in line:
                yield pytest.param(words[1:], id=f"{name(path)}: {' '.join(words)[:60]}")


@functools.cache
def cli():
    return typer.main.get_command(app)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_relative_link_leads_to_a_file_and_a_heading(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name(path)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{name(path)} links to {target}, a heading that is not there"


@pytest.mark.parametrize("words", command_lines())
def test_every_command_line_parses_and_its_settings_exist(words, monkeypatch):
    resolved = []

    def resolve(table, *, settings, **_):
        for assignment in settings or []:
            override(table, assignment)
        resolved.append(config_of(table))

    monkeypatch.setattr(execute, "execute", resolve)
    command = cli().commands[words[0]]
    with command.make_context(words[0], list(words[1:])) as context:
        if words[0] in ("finetune", "distill", "pretrain"):
            command.invoke(context)
            assert isinstance(resolved[0], PretrainRun if words[0] == "pretrain" else RunConfig)


def test_every_command_that_a_document_names_exists():
    # `attar` alone and `attar.name` are the package.
    spans = re.findall(r"(?<!`)`attar ([a-z]+)", "\n".join(map(prose, DOCUMENTS)))
    assert set(spans) <= set(cli().commands)


@pytest.mark.parametrize("command", sorted(cli().commands))
def test_every_command_is_documented(command):
    assert f"attar {command}" in USE


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if blocks(p, "python")], ids=name)
def test_python_blocks_compile_and_use_public_names(path):
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "attar":
                assert node.attr in attar.__all__, f"{name(path)} uses attar.{node.attr}"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=name)
def test_examples_compile_and_are_described(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("public", attar.__all__)
def test_every_public_name_is_documented(public):
    assert re.search(rf"\battar\.{public}\b", USE), f"no page says what attar.{public} is"


@pytest.mark.parametrize(
    "method", [*METHODS.values(), *PRETRAINING.values()], ids=lambda method: f"{method.use} {method.name}"
)
def test_every_method_has_a_page_and_a_readme_with_its_true_defaults(method):
    page = (ROOT / "docs" / "methods" / f"{method.name}.md").read_text()
    readme = (ROOT / "attar" / "methods" / method.room / "README.md").read_text()
    assert f"methods/{method.room}/README.md" in page
    assert f"docs/methods/{method.name}.md" in (ROOT / "README.md").read_text()
    settings = "Settings of the pre-training" if method.use == "pretrain" else "Settings"
    for heading in ("How to use", settings, "What we changed, and why", "Paper vs ours", "Known gaps"):
        assert f"\n## {heading}\n" in readme
    section = readme.split(f"\n## {settings}\n")[1].split("\n## ")[0]
    # Two methods in one room have a section each.
    own = re.search(rf"^### `{method.name}`\n(.*?)(?=^###|\Z)", section, re.MULTILINE | re.DOTALL)
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", own[1] if own else section, re.MULTILINE))
    settings = {f.name: f.default for f in dataclasses.fields(method.config_class())}
    usual, rates = TrainConfig(), method.train_defaults(method.config_class()())
    train = {k: v for k, v in vars(rates).items() if v != getattr(usual, k) or k in told}
    assert {k: told.get(k) for k in settings | train} == {k: str(v) for k, v in (settings | train).items()}


def test_the_architecture_page_names_every_module():
    tree = blocks(ROOT / "docs" / "architecture.md", "")[0]
    here = [p for p in (ROOT / "attar").rglob("*.py") if p.stat().st_size]
    assert not [name(p) for p in here if not re.search(rf"\b{p.name}\b", tree)]
    listed = set(re.findall(r"[\w]+\.(?:py|js|css|html\.j2)\b", tree))
    assert not listed - {p.name for p in (ROOT / "attar").rglob("*")}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split())
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)) == targets
    assert {"setup", "demo", "test", "test-all", "check", "fix", "bench", "size", "clean"} <= targets


def test_constraints_pin_every_direct_dependency_and_no_build_of_torch():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    assert not [line for line in lines if "+" in line or line.startswith(("nvidia-", "triton"))]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(requirement for extra in extras.values() for requirement in extra)]
    wanted = [requirement for requirement in wanted if not requirement.startswith(("attar[", "spacy"))]
    names = {re.split(r"[<>=~!\[; ]", requirement)[0].lower().replace("-", "_") for requirement in wanted}
    assert names <= {pin.lower().replace("-", "_") for pin in pins}
