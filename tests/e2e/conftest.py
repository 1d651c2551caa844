"""Fixtures of the end-to-end tests."""

import pytest
from toy import FAST, call, reviews, save_encoder, write_rows


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep the signal cache, and the hub's, out of the user's home."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session", autouse=True)
def quiet_transformers():
    """Silence transformers as the command line's environment does in a process of its own."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A tiny pre-trained encoder."""
    return save_encoder(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of train, dev and test reviews."""
    folder = tmp_path_factory.mktemp("reviews")
    for split, n, seed in (("train", 128, 0), ("dev", 32, 1), ("test", 32, 2)):
        write_rows(folder / f"{split}.csv", reviews(n, seed))
    return str(folder)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, encoder, data):
    """A teacher that has learnt the reviews, made by ``attar finetune``."""
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    result = call("finetune", "--model", encoder, "--data", data, "--out", out, "--epochs", 6, *FAST, "--json")
    assert result.code == 0, result.err
    return str(out)
