"""The student's word-level tokenizer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from attar.data.augmentation.words import MASK
from attar.data.texts import TextSource

PAD, UNK = "[PAD]", "[UNK]"
#: The augmenter's mask is an ordinary word of the student, with a vector of its own (Tang et al., section 3.3).
SPECIAL = (PAD, UNK, MASK)


def build_tokenizer(
    splits: Sequence[Dataset],
    *,
    min_count: int,
    max_words: int,
    lowercase: bool,
    max_length: int,
    extra: Iterable[str] = (),
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, seen at least ``min_count`` times in the texts, most frequent first,
    followed by the ``extra`` words that they lack.

    Pairs come out as one row with ``token_type_ids`` 0 and 1.
    """
    tokenizer = Tokenizer(models.WordLevel({UNK: 0}, unk_token=UNK))
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Lowercase()] if lowercase else steps)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    frequent = _frequent(tokenizer, splits, min_count, max_words)
    words = dict.fromkeys([*frequent, *(word for word in extra if _is_one_word(tokenizer, word))])
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *(w for w in words if w not in SPECIAL)])}
    tokenizer.model = models.WordLevel(vocabulary, unk_token=UNK)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNK,
        mask_token=MASK,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def words_of(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Return the vocabulary in the order of its ids, special words included."""
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)


def _is_one_word(tokenizer: Tokenizer, word: str) -> bool:
    """Whether the student's tokenizer leaves a word as it is; a cased word never matches lower-cased text."""
    return tokenizer.normalizer.normalize_str(word) == word


def _frequent(tokenizer: Tokenizer, splits: Sequence[Dataset], min_count: int, max_words: int) -> list[str]:
    counts: Counter[str] = Counter()
    for text in _texts(splits):
        normal = tokenizer.normalizer.normalize_str(text.replace(MASK, " "))
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    # Ties are broken by the word itself, so that the vocabulary does not depend on the order of the rows.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word for word, count in ordered[:max_words] if count >= min_count]


def _texts(splits: Sequence[Dataset]) -> Iterator[str]:
    for texts, pairs in TextSource(splits).chunks():
        yield from texts
        yield from pairs or []
