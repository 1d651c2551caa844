"""Part-of-speech taggers: a list of words in, one tag a word out."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from attar.errors import ConfigError, MissingExtra

Tagger = Callable[[list[str]], list[str]]

# Taggers learn from treebanks that write "is n't" and "film 's"; unsplit, every contraction would pass for a noun.
_CLITIC = re.compile(r"(.+?)(n['’]t|['’](?:s|re|ve|ll|d|m))", re.IGNORECASE)
_SENTENCE_ENDS = frozenset(".!?")
_LONGEST_SENTENCE = 200  # words; bounds the tagger's search table in text without full stops
_LONGEST_WORD = 30  # characters; HanTa's time grows with the square of them, and endings tell the tag
_KNOWN_WORDS = 100_000


def load_tagger(name: str) -> Tagger:
    """Load a part-of-speech tagger.

    Args:
        name: ``hanta`` (English, carries its model) or the name or path of a spaCy pipeline.

    Returns:
        A function from the words of one text to their tags. A contraction gets the tags of its parts,
        joined: ``isn't`` is ``VBZ+XX0``.

    Raises:
        MissingExtra: where a spaCy pipeline is asked for and spaCy is not installed.
        ConfigError: where spaCy has no such pipeline, or the pipeline does not tag.
    """
    return functools.partial(_tag_words, tag_sentence=_load_hanta() if name == "hanta" else _load_spacy(name))


def _tag_words(words: list[str], *, tag_sentence: Tagger) -> list[str]:
    tags: list[str] = []
    for sentence in _sentences(words):
        parts = [_parts(word) for word in sentence]
        part_tags = iter(tag_sentence([part for pair in parts for part in pair]))
        tags += ["+".join(next(part_tags) for _ in pair) for pair in parts]
    return tags


def _sentences(words: list[str]) -> Iterator[list[str]]:
    start = 0
    for i, word in enumerate(words, start=1):
        if word in _SENTENCE_ENDS or i - start == _LONGEST_SENTENCE:
            yield words[start:i]
            start = i
    if start < len(words):
        yield words[start:]


def _parts(word: str) -> tuple[str, ...]:
    split = _CLITIC.fullmatch(word)
    return (split[1], split[2].replace("’", "'")) if split else (word,)


def _load_hanta() -> Tagger:
    from HanTa.HanoverTagger import HanoverTagger  # slow to import, and only augmentation needs it

    model: Any = HanoverTagger("morphmodel_en.pgz")
    # Words outside its lexicon are analysed afresh each time; remembering them makes tagging half as fast again.
    model.analyze_forward = functools.lru_cache(_KNOWN_WORDS)(model.analyze_forward)
    return lambda words: model.tag_sent([word[-_LONGEST_WORD:] for word in words], taglevel=0)


def _load_spacy(name: str) -> Tagger:
    try:
        import spacy
        from spacy.tokens import Doc
    except ImportError as error:
        raise MissingExtra("spacy", "spacy") from error
    try:
        pipeline = spacy.load(name, exclude=["parser", "ner", "lemmatizer"])
    except OSError as error:
        raise ConfigError(
            f"augment.tagger expects 'hanta' or an installed spaCy pipeline; found {name!r}; "
            f"install it with: python -m spacy download {name}"
        ) from error

    def tag(words: list[str]) -> list[str]:
        doc = pipeline(Doc(pipeline.vocab, words=words))
        return [token.tag_ or token.pos_ for token in doc]

    if not all(tag(["a", "film"])):
        raise ConfigError(
            f"augment.tagger expects a spaCy pipeline that tags parts of speech; {name!r} does not; "
            "use 'hanta' or a pipeline such as en_core_web_sm"
        )
    return tag
