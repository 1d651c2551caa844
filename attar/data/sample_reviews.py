"""The labelled reviews that come with the package."""

from pathlib import Path


def sample_path() -> Path:
    """Return the folder of the bundled movie reviews: ``train``, ``dev`` and ``test`` with columns text and label."""
    return Path(__file__).parent / "sample"
