r"""WordPiece tokenisation as BERT encoders have it, in the graph, and the Transform node's function made of it.

Ids equal those of the ``tokenizers`` library put together as BERT's: ``BertNormalizer``, ``BertPreTokenizer``,
``WordPiece`` with at most 100 characters a word, ``[CLS]`` and ``[SEP]`` around, truncated to ``max_tokens``.

tensorflow-text's own ``BertTokenizer`` and ``FastBertTokenizer`` differ from that: they fold compatibility characters
(a half becomes "1", a fraction slash and "2"; a trade mark sign becomes "tm"), put a space for a control character
instead of nothing, keep private-use characters and limit words to 100 bytes. So text is normalised and split here with
plain regular expressions, and only the pieces of a word are found by tensorflow-text, by its linear algorithm (Song et
al. 2021, https://arxiv.org/abs/2012.15524).

What still differs:

- Characters that Unicode gained or moved to another class after version 8, which is what the reference's tables hold:
  fewer than 700 of 1.1 million, such as punctuation from U+2E43 on, or marks of scripts encoded since.
- ``[SEP]``, ``[MASK]`` and the like in a text are punctuation and a word here. Tokenisers loaded from a
  ``tokenizer.json`` take them for the special tokens, so a headline could end its own input.
- ``preprocessing_fn`` takes a backslash for a line break, as AG News writes one.
- Bytes that are not UTF-8 are dropped, where the reference does not accept them.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_text as tf_text

from components import features
from components.errors import BadInputError
from components.text.vocabulary import CLS, SEP, UNK, check_casing, read_vocabulary
from components.text.words import break_lines, clean_keeping_case, fold_case

MAX_WORD_CHARACTERS = 100
_MAX_CHARACTER_BYTES = 4

# White space first: what is left of the control characters then goes without a trace. U+FFFD stands for bytes that are
# not UTF-8, and the reference drops it wherever it came from.
_CLEANING = ((r"[\t\n\r\p{Z}]+", " "), (r"[\p{C}\x{FFFD}]+", ""))
# BERT's blocks of ideographs as the reference has them, where U+2B820 to U+2B91F are left out.
_IDEOGRAPHS = (
    r"([\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}"
    r"\x{2B920}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}])"
)
_ACCENTS = r"\p{Mn}+"
_PUNCTUATION = r"([!-/:-@\[-`{-~\p{P}])"
_CAPITAL_SIGMA, _SIGMA = r"\x{3A3}", "\u03c3"


class WordPiece:
    """Tokeniser of one vocabulary, which it carries as a constant of the graph it is called in.

    Args:
        pieces: The vocabulary in id order, as ``read_vocabulary`` returns it.
        lower_case: Lower-case the text first.
        max_tokens: Ids kept per text, ``[CLS]`` and ``[SEP]`` included; 2 or more.
        strip_accents: Strip accents first; None does as ``lower_case`` says.
        tokenize_chinese_chars: Make every ideograph a word of its own.

    Raises:
        BadInputError: ``max_tokens`` is less than 2.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        lower_case: bool,
        max_tokens: int,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ):
        if max_tokens < 2:
            raise BadInputError(f"max_tokens is {max_tokens}, but {CLS} and {SEP} alone are 2: set it to 2 or more")
        self._normalization = (lower_case, strip_accents, tokenize_chinese_chars)
        self._max_pieces = max_tokens - 2
        self._cls_id, self._sep_id = pieces.index(CLS), pieces.index(SEP)
        # Words too long in characters are replaced before; this limit counts bytes and must never be what decides.
        self._pieces = tf_text.FastWordpieceTokenizer(
            list(pieces),
            max_bytes_per_word=MAX_WORD_CHARACTERS * _MAX_CHARACTER_BYTES,
            unknown_token=UNK,
            no_pretokenization=True,
        )

    def __call__(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Tokenises texts.

        Args:
            text: string tensor [N], UTF-8.

        Returns:
            Ragged int64 tensor [N, (tokens)], every row from ``[CLS]`` to ``[SEP]``, without padding.
        """
        # A word has at least one piece, so that what lies behind these words cannot matter.
        words = split_words(normalize(text, *self._normalization))[:, : self._max_pieces]
        too_long = tf.strings.length(words.flat_values, unit="UTF8_CHAR") > MAX_WORD_CHARACTERS
        words = words.with_flat_values(tf.where(too_long, UNK, words.flat_values))
        ids = self._pieces.tokenize(words).merge_dims(1, 2)[:, : self._max_pieces]
        end = tf.ones([ids.nrows(), 1], tf.int64)
        return tf.concat([end * self._cls_id, ids, end * self._sep_id], axis=1)


def normalize(
    text: tf.Tensor, lower_case: bool, strip_accents: bool | None = None, tokenize_chinese_chars: bool = True
) -> tf.Tensor:
    """Drops control characters, folds white space and, if told to, sets ideographs apart, accents and case aside.

    Args:
        text: string tensor of any shape, UTF-8.
        lower_case: Lower-case the text.
        strip_accents: Strip accents; None does as ``lower_case`` says.
        tokenize_chinese_chars: Put space around every ideograph.

    Returns:
        String tensor of the same shape; in canonical decomposition where accents are stripped.
    """
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    for pattern, replacement in _CLEANING:
        text = tf.strings.regex_replace(text, pattern, replacement)
    if tokenize_chinese_chars:
        text = tf.strings.regex_replace(text, _IDEOGRAPHS, r" \1 ")
    if lower_case if strip_accents is None else strip_accents:
        text = tf.strings.regex_replace(tf_text.normalize_utf8(text, "NFD"), _ACCENTS, "")
    # Lower-casing makes a final sigma of the last one in a word; the reference goes by the character alone.
    return fold_case(tf.strings.regex_replace(text, _CAPITAL_SIGMA, _SIGMA)) if lower_case else text


def split_words(text: tf.Tensor) -> tf.RaggedTensor:
    """Splits normalised texts, string [N], at spaces and around punctuation: ragged string [N, (words)]."""
    return tf.strings.split(tf.strings.regex_replace(text, _PUNCTUATION, r" \1 "))


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Turns raw features into an encoder's token ids and passes the label through.

    The graph holds the vocabulary itself and needs no file where it serves.

    Args:
        inputs: ``text`` string [N, 1] and ``label`` int64 [N, 1].
        custom_config: ``vocabulary``, path of the encoder's ``vocab.txt``; ``vocabulary_digest``, its SHA-256 in hex,
            by which Transform's cache knows it; ``lower_case``; ``strip_accents`` and ``tokenize_chinese_chars``, if
            they are not as by default; ``max_tokens`` per text, ``[CLS]`` and ``[SEP]`` included; ``clean``, whether
            entities and markup are resolved first.

    Returns:
        ``token_ids``, sparse int64 [N, (tokens)], without padding; ``label``, int64 [N, 1].

    Raises:
        BadInputError: The vocabulary cannot be used, is another than when the run was configured, or its casing
            contradicts ``lower_case``.
    """
    path, lower_case = custom_config["vocabulary"], custom_config["lower_case"]
    pieces = read_vocabulary(path, custom_config["vocabulary_digest"])
    check_casing(pieces, lower_case, path)
    text = tf.squeeze(inputs[features.TEXT], axis=1)
    text = clean_keeping_case(text) if custom_config["clean"] else break_lines(text)
    names = ("strip_accents", "tokenize_chinese_chars")
    settings = {name: custom_config[name] for name in names if name in custom_config}
    return {
        features.TOKEN_IDS: WordPiece(pieces, lower_case, custom_config["max_tokens"], **settings)(text).to_sparse(),
        features.LABEL: inputs[features.LABEL],
    }
