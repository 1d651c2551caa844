"""The words that a tokenizer knows as one piece."""

from transformers import PreTrainedTokenizerBase


def whole_words(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Return the words of two letters or more that are one piece, by the piece's id, in the order of the ids."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if type(tokenizer.backend_tokenizer.model).__name__ != "WordPiece":
        # Byte-level BPE and SentencePiece mark the beginning of a word; WordPiece marks the rest of it (##).
        # A byte-level piece spells letters outside ASCII in other characters, so it has to be decoded.
        starts = [(piece, i) for piece, i in pieces if piece.startswith(("Ġ", "▁"))]
        pieces = [(tokenizer.convert_tokens_to_string([piece]).strip(), i) for piece, i in starts]
    return {i: word for word, i in pieces if word.isalpha() and len(word) > 1}
