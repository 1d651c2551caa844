import errno
import json

import pytest

from attar.errors import BundleError
from attar.workspace import Workspace

RECIPE = 'out = "student"\n\n[train]\nlr = 1.0\nseed = 0\n\n[augment]\nseed = 1\n'


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "student"


def interrupted(out, recipe=RECIPE):
    with Workspace(out, recipe) as work:
        work.start()
        work.step("first", lambda: {"n": 1})
    return work


def bundle_in(work, text="new"):
    folder = work.folder / "student"
    folder.mkdir()
    (folder / "weights").write_text(text)
    return folder


def refuse():
    raise AssertionError("a finished step was made again")


def test_an_existing_out_is_refused_and_untouched(out):
    out.mkdir(parents=True)
    (out / "precious").write_text("x")
    with pytest.raises(BundleError, match=r"exists already.*--overwrite"):
        Workspace(out, RECIPE)
    assert (out / "precious").read_text() == "x"


def test_an_existing_out_is_refused_when_resuming(out):
    interrupted(out)
    out.mkdir()
    with pytest.raises(BundleError, match="exists already"):
        Workspace(out, RECIPE, resume=True)


def test_a_finished_run_with_other_settings_says_which_when_resuming(out):
    out.mkdir(parents=True)
    (out / "recipe.toml").write_text(RECIPE + "epochs = 3\n")
    with pytest.raises(BundleError, match=r"made with other settings \(- before, \+ now: - epochs = 3\)"):
        Workspace(out, RECIPE, resume=True)


def test_nothing_is_written_before_start(out):
    Workspace(out, RECIPE)
    assert not out.parent.exists()


def test_an_interrupted_run_is_refused_without_a_flag(out):
    interrupted(out)
    with pytest.raises(BundleError, match="interrupted run; --resume continues it, --overwrite starts anew"):
        Workspace(out, RECIPE)


def test_a_folder_where_another_process_works_is_left_alone(out):
    interrupted(out)
    with Workspace(out, RECIPE, resume=True) as work:
        work.start()
        for flag in ("resume", "overwrite"):
            other = Workspace(out, RECIPE, **{flag: True})
            with pytest.raises(
                BundleError, match=r"another process is at work in .*student\.work; wait for it, or stop it"
            ):
                other.start()
    assert (work.folder / "first.json").exists()
    Workspace(out, RECIPE, resume=True).start()


def test_a_file_system_that_knows_no_locks_is_no_obstacle(out, monkeypatch, caplog):
    def refuse_lock(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse_lock)
    work = interrupted(out)
    assert "No locks available" in caplog.text
    work.finish(bundle_in(work))
    assert (out / "weights").read_text() == "new"


def test_a_run_that_another_process_finished_meanwhile_is_not_made_again(out):
    first = interrupted(out)
    late = Workspace(out, RECIPE, resume=True)
    first.finish(bundle_in(first))
    with pytest.raises(BundleError, match="student was finished by another process meanwhile"):
        late.start()
    assert [folder.name for folder in out.parent.iterdir()] == ["student"]


def test_resume_reuses_finished_steps_and_makes_the_others(out):
    interrupted(out)
    work = Workspace(out, RECIPE, resume=True)
    work.start()
    assert work.step("first", refuse) == {"n": 1}
    assert work.step("second", lambda: {"n": 2}) == {"n": 2}
    assert json.loads((work.folder / "second.json").read_text()) == {"n": 2}


def test_a_step_that_fails_is_made_again(out):
    work = Workspace(out, RECIPE)
    work.start()
    with pytest.raises(AssertionError):
        work.step("first", refuse)
    assert work.step("first", lambda: {"n": 3}) == {"n": 3}


def test_resume_without_an_interrupted_run_starts_one(out):
    work = Workspace(out, RECIPE, resume=True)
    work.start()
    assert work.step("first", lambda: {"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        (RECIPE.replace("lr = 1.0", "lr = 0.5"), r"\+ lr = 0\.5"),
        (RECIPE.replace("seed = 0", "seed = 0\nmax_steps = 3"), r"\+ max_steps = 3"),
        (RECIPE.replace("seed = 0", "seed = 1"), r"- seed = 0; \+ seed = 1"),  # [augment] has the line seed = 1 too
        (RECIPE.replace("lr = 1.0\n", ""), r"- lr = 1\.0"),
    ],
    ids=["changed", "added", "same-line-in-another-section", "removed"],
)
def test_resume_with_another_recipe_is_refused_with_what_changed(out, recipe, named):
    interrupted(out)
    with pytest.raises(BundleError, match=named):
        Workspace(out, recipe, resume=True)


def test_overwrite_drops_an_interrupted_run_of_any_recipe(out):
    interrupted(out)
    work = Workspace(out, RECIPE.replace("lr = 1.0", "lr = 0.5"), overwrite=True)
    work.start()
    assert work.step("first", lambda: {"n": 9}) == {"n": 9}
    assert "lr = 0.5" in (work.folder / "recipe.toml").read_text()


def test_overwrite_keeps_the_old_bundle_until_the_new_one_is_done(out):
    out.mkdir(parents=True)
    (out / "weights").write_text("old")
    (out / "stale").write_text("old")
    work = Workspace(out, RECIPE, overwrite=True)
    work.start()
    bundle = bundle_in(work)
    assert (out / "weights").read_text() == "old"
    work.finish(bundle)
    assert [file.name for file in out.iterdir()] == ["weights"]
    assert (out / "weights").read_text() == "new"


def test_finish_moves_the_bundle_into_place_and_removes_the_work_folder(out):
    work = interrupted(out)
    bundle = bundle_in(work)
    inode = bundle.stat().st_ino
    work.finish(bundle)
    assert (out / "weights").read_text() == "new"
    assert out.stat().st_ino == inode  # renamed, not copied file by file
    assert not work.folder.exists()
    assert [folder.name for folder in out.parent.iterdir()] == ["student"]


def test_without_overwrite_finish_does_not_replace_a_bundle_that_appeared_meanwhile(out):
    work = interrupted(out)
    bundle = bundle_in(work)
    out.mkdir()
    (out / "weights").write_text("another run's")
    with pytest.raises(OSError, match="not empty"):
        work.finish(bundle)
    assert (out / "weights").read_text() == "another run's"
    assert (bundle / "weights").read_text() == "new"
