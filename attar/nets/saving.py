"""Write models so that whoever may read a folder may read its weights."""

import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase


def save_model(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a model, by its ``save_pretrained``, and its tokenizer into a folder."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        give_usual_mode(file)


def give_usual_mode(file: Path) -> None:
    """Give a file the permissions of any new one; safetensors makes files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)
