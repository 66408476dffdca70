"""Cleaning and word tokenisation with core TensorFlow ops, so that the same graph trains and serves."""

import tensorflow as tf

# Order matters: an escaped ampersand may hide a second entity behind it.
_DEBRIS = (
    # AG News writes line breaks as backslashes and has lost the ampersand of most entities.
    (r"\\", " "),
    (r"(?i)&?\b(?:amp;)+", "&"),
    (r"(?i)&lt;/?[a-z][^&<>]{0,300}&gt;|</?[a-z][^<>]{0,300}>", " "),
    (r"(?i) ?&?#(?:0?39|8217|146);|&(?:apos|rsquo);", "'"),
    (r"(?i)&?\bquot;", '"'),
    (r"(?i)&?#x?[0-9a-f]{1,6};|&?\b(?:lt|gt|nbsp);|&[a-z]{2,8};", " "),
)
_INVISIBLE = (
    # Marks and joiners that have no width, then everything else that only separates.
    (r"\p{Cf}", ""),
    (r"[\p{Z}\p{C}]+", " "),
    (r"[\x{2018}\x{2019}]", "'"),
)
_TOKENS = (
    # The clitic is a token of its own: "Iraq's" and "Iraq" share one vocabulary entry.
    (r"'(s|t|d|m|re|ve|ll)\b", r" \1 "),
    (r"([^\p{L}\p{N}\p{M} ])", r" \1 "),
    # Scripts without spaces: one token a character.
    (r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])", r" \1 "),
)


def clean_keeping_case(text: tf.Tensor) -> tf.Tensor:
    """Resolves entities, drops markup and invisible characters, folds white space.

    Args:
        text: string tensor of any shape, UTF-8.

    Returns:
        String tensor of the same shape.
    """
    return tf.strings.strip(_replace(text, (*_DEBRIS, *_INVISIBLE)))


def clean(text: tf.Tensor) -> tf.Tensor:
    """Cleans as ``clean_keeping_case`` does, and folds case.

    Args:
        text: string tensor of any shape, UTF-8.

    Returns:
        String tensor of the same shape.
    """
    return tf.strings.lower(clean_keeping_case(text), encoding="utf-8")


def tokenize(text: tf.Tensor, max_tokens: int, cleaned: bool = True) -> tf.RaggedTensor:
    """Folds case and splits texts into words, numbers and single punctuation marks.

    Args:
        text: string tensor [N], UTF-8.
        max_tokens: Tokens kept per text, from the start.
        cleaned: Whether entities are resolved and markup is dropped before. If not, they fall into words and marks as
            everything else does.

    Returns:
        Ragged string tensor [N, (tokens)].
    """
    text = clean(text) if cleaned else tf.strings.lower(_replace(text, _INVISIBLE), encoding="utf-8")
    return tf.strings.split(_replace(text, _TOKENS))[:, :max_tokens]


def _replace(text: tf.Tensor, rules: tuple[tuple[str, str], ...]) -> tf.Tensor:
    for pattern, replacement in rules:
        text = tf.strings.regex_replace(text, pattern, replacement)
    return text
