"""What an encoder makes of single words."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from attar.nets.loading import fingerprint, load_encoder, load_tokenizer
from attar.teacher.scoring import Scorer


def word_states(name: str, words: Sequence[str]) -> np.ndarray:
    """Run every word alone through an encoder and average its pieces' last states, float32 (words, W).

    The states are kept in the signal cache, so that asking again runs nothing.
    """
    scorer = Scorer(
        load=lambda: (load_encoder(name), load_tokenizer(name)),
        fingerprint=fingerprint(name),
        signal="embedding",
        max_length=32,
    )
    return scorer.score([Dataset.from_dict({"text": list(words)})], "word vectors").take(np.arange(len(words)))
