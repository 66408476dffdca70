"""Cleaning and word tokenisation with core TensorFlow ops, so that the same graph trains and serves."""

import tensorflow as tf

from components.text.scripts import CHARACTER

# Order matters: an escaped ampersand may hide a second entity behind it.
_DEBRIS = (
    # AG News has lost the ampersand of most entities.
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
    (CHARACTER, r" \1 "),
)
# Letters beyond ASCII that Turkish, Azeri or Lithuanian lower-cases in a way of its own (Unicode's SpecialCasing.txt),
# and what they are in every other language.
_LOWER = (("\u00cc", "\u00ec"), ("\u00cd", "\u00ed"), ("\u0128", "\u0129"), ("\u012e", "\u012f"), ("\u0130", "i\u0307"))


def fold_case(text: tf.Tensor) -> tf.Tensor:
    """Lower-cases texts in every locale alike.

    Told an encoding, TensorFlow lower-cases by ICU as the locale of the process has it: in Turkish and Azeri, I becomes
    a dotless one; in Lithuanian, I keeps its dot below an accent. The environment of a server is not ours to set, so
    those letters are folded before ICU sees them: ASCII by the op without an encoding, which knows no locale.

    Args:
        text: string tensor of any shape, UTF-8.

    Returns:
        String tensor of the same shape.
    """
    return tf.strings.lower(_replace(tf.strings.lower(text), _LOWER), encoding="utf-8")


def break_lines(text: tf.Tensor) -> tf.Tensor:
    """Puts a line break for each backslash, which is how AG News writes one, whether a text is learned or classified.

    Args:
        text: string tensor of any shape, UTF-8.

    Returns:
        String tensor of the same shape.
    """
    return tf.strings.regex_replace(text, r"\\", "\n")


def clean_keeping_case(text: tf.Tensor) -> tf.Tensor:
    """Breaks lines, resolves entities, drops markup and invisible characters, folds white space.

    Args:
        text: string tensor of any shape, UTF-8.

    Returns:
        String tensor of the same shape.
    """
    return tf.strings.strip(_replace(break_lines(text), (*_DEBRIS, *_INVISIBLE)))


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
    text = clean_keeping_case(text) if cleaned else _replace(break_lines(text), _INVISIBLE)
    return tf.strings.split(_replace(fold_case(text), _TOKENS))[:, :max_tokens]


def _replace(text: tf.Tensor, rules: tuple[tuple[str, str], ...]) -> tf.Tensor:
    for pattern, replacement in rules:
        text = tf.strings.regex_replace(text, pattern, replacement)
    return text
