"""A BERT vocabulary, ``vocab.txt``: UTF-8, one piece a line, a piece's place its id."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from components.errors import BadInputError

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SUFFIX = "##"
"""Marks a piece that goes on with a word instead of beginning one."""

MAX_PIECE_BYTES = 256
"""The longest piece tensorflow-text takes, without ``SUFFIX``."""

_SPECIAL = re.compile(r"\[[^\[\]]+\]|<[^<>]+>")
_ADVICE = "use the vocab.txt that belongs to the encoder"


def read_vocabulary(path: str | Path, digest: str | None = None) -> tuple[str, ...]:
    """Reads the pieces of a vocabulary in id order.

    Args:
        path: The file.
        digest: SHA-256 in hex that the file must have; by default any will do.

    Returns:
        The pieces; the id of a piece is its index.

    Raises:
        BadInputError: The file is missing, changed, not UTF-8 or empty; a piece is empty, longer than
            ``MAX_PIECE_BYTES``, holds a NUL or stands there twice; ``[PAD]`` is not the first one; ``[UNK]``,
            ``[CLS]`` or ``[SEP]`` is absent.
    """
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise BadInputError(
            f"the vocabulary {path} changed after the run was configured (SHA-256 {found}, not {digest}): "
            "start the run again"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"the vocabulary {path} is not UTF-8 text ({error.reason} at byte {error.start}): {_ADVICE}"
        ) from error
    # Not splitlines(): published vocabularies have U+2028 for a piece, and a second line would shift all later ids.
    pieces = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    _check(pieces, path)
    return pieces


def vocabulary_digest(path: str | Path) -> str:
    """Returns the SHA-256 of a vocabulary file in hex; raises ``BadInputError`` if it cannot be read."""
    return hashlib.sha256(_read(path)).hexdigest()


def is_cased(pieces: Sequence[str]) -> bool:
    """Tells whether an ordinary piece has an upper-case letter.

    Special ones such as ``[CLS]``, ``[unused12]`` and ``<S>`` do not count, nor do letters without a lower case,
    such as the double-struck R of the uncased English vocabulary.
    """
    return any(piece != piece.lower() for piece in _ordinary(pieces))


def check_casing(pieces: Sequence[str], lower_case: bool, where: str | Path, setting: str = "lower_case") -> None:
    """Refuses a vocabulary whose casing contradicts the tokeniser's.

    Both directions are wrong, as they are to the original BERT code: a cased vocabulary under lower-casing leaves its
    capitalised pieces unused, and an uncased one without it turns the first word of every sentence and every name
    into ``[UNK]``. Either trains without a word of complaint and costs accuracy. A vocabulary without cased letters
    goes with both, since lower-casing strips accents too, which such scripts may need.

    Args:
        pieces: The vocabulary.
        lower_case: Whether text is lower-cased, and its accents stripped, before it is looked up.
        where: The vocabulary's path or the encoder's name, for the error.
        setting: Key of ``lower_case`` in the configuration, for the error.

    Raises:
        BadInputError: The two do not agree.
    """
    cased = is_cased(pieces)
    if lower_case and cased:
        raise BadInputError(f"the vocabulary {where} is cased, but text is lower-cased before it: set {setting}=false")
    if not lower_case and not cased and any(piece != piece.upper() for piece in _ordinary(pieces)):
        raise BadInputError(
            f"the vocabulary {where} has no upper-case letter, so every capitalised word would be {UNK}: "
            f"set {setting}=true"
        )


def _ordinary(pieces: Sequence[str]) -> list[str]:
    return [piece for piece in pieces if not _SPECIAL.fullmatch(piece)]


def _read(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(f"the vocabulary {path} cannot be read ({error.strerror}): {_ADVICE}") from error


def _check(pieces: tuple[str, ...], path: str | Path) -> None:
    if pieces == ("",):
        raise BadInputError(f"the vocabulary {path} is empty: {_ADVICE}")
    lines: dict[str, int] = {}
    for line, piece in enumerate(pieces, start=1):
        if not piece or "\0" in piece:
            what = "holds a NUL character" if piece else "is empty"
            raise BadInputError(f"line {line} of the vocabulary {path} {what}: {_ADVICE}")
        if (size := len(piece.removeprefix(SUFFIX).encode())) > MAX_PIECE_BYTES:
            raise BadInputError(
                f"line {line} of the vocabulary {path} has {size} bytes, more than the {MAX_PIECE_BYTES} of a piece: "
                f"{_ADVICE}"
            )
        if piece in lines:
            raise BadInputError(
                f"the vocabulary {path} names {piece!r} twice, in lines {lines[piece]} and {line}: {_ADVICE}"
            )
        lines[piece] = line
    if pieces[0] != PAD:
        raise BadInputError(
            f"the vocabulary {path} begins with {pieces[0]!r}, but id 0 is padding here and must be {PAD}: {_ADVICE}"
        )
    if missing := [name for name in (UNK, CLS, SEP) if name not in lines]:
        raise BadInputError(f"the vocabulary {path} lacks {', '.join(missing)}: {_ADVICE}")
