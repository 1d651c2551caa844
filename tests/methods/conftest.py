"""Fixtures of the method tests."""

import pytest
import transformers
from settings import save_model
from transformers import AutoModel


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keep the signal cache out of the user's home, and transformers quiet."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTAR_CACHE", str(folder))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield folder


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A teacher of two labels, with dropout in its configuration, whose answers differ from text to text."""
    return save_model(tmp_path_factory.mktemp("teacher") / "teacher")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """An encoder without a head."""
    return save_model(tmp_path_factory.mktemp("encoder") / "encoder", auto=AutoModel, seed=1)
