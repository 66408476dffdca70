"""Which encoding a file of text is in, and what it is in UTF-8."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from charset_normalizer import from_bytes

from components.errors import BadInputError

UTF_8, WINDOWS_1252 = "utf-8", "cp1252"
SAMPLE_BYTES, _IN_MEMORY_BYTES = 64 << 10, 8 << 20
_FEW_LINES, _LEAST_WESTERN = 2, 0.9
# Without the letters of Windows-1252 that Czech, Polish and Turkish have in place of theirs.
_WESTERN = frozenset("àâäáãåæçèéêëìíîïñòóôöõøùúûüœßÀÂÄÁÃÅÆÇÈÉÊËÍÎÏÑÓÔÖÕØÙÚÛÜŒ‘’“”„–—…«»¿¡€£§°·•ºª®™´\xa0")  # noqa: RUF001
_SPOILT = "newsdesk-spoilt"
# A byte that UTF-8 does not have, so that what cannot be decoded costs its record and no other.
codecs.register_error(_SPOILT, lambda bad: ("\udcff" if isinstance(bad, UnicodeDecodeError) else b"\xff", bad.end))  # type: ignore[attr-defined]


def find_encoding(sample: bytes, path: str) -> str:
    """Returns the encoding that the first ``SAMPLE_BYTES`` of a file are in, by Python's name.

    A few lines that are not UTF-8 are broken; more of them make a file in Windows-1252, if that reads well.

    Raises:
        BadInputError: It is in none that can be told.
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    whole = sample[: sample.rfind(b"\n") + 1] if len(sample) >= SAMPLE_BYTES else sample
    wide = [line for line in whole.split(b"\n") if not line.isascii()]
    broken = sum(line.decode(errors="ignore").encode() != line for line in wide)
    if broken <= max(_FEW_LINES, len(wide) // 2):
        return UTF_8
    text = b"\n".join(wide)
    best = from_bytes(text, cp_isolation=[WINDOWS_1252]).best()
    letters = [letter for letter in text.decode(WINDOWS_1252, errors="replace") if not letter.isascii()]
    western = sum(letter in _WESTERN for letter in letters) >= _LEAST_WESTERN * len(letters)
    if western and best:
        return WINDOWS_1252
    raise BadInputError(f"{path} is not in UTF-8: say what it is in, such as --encoding cp1251")


def check_encoding(name: str) -> str:
    """Returns Python's name of an encoding.

    Raises:
        BadInputError: There is none that is called so.
    """
    try:
        "a".encode(name)
        codecs.getincrementaldecoder(name)(_SPOILT).decode(b"a")
    except (LookupError, ValueError) as error:
        raise BadInputError(f"there is no encoding {name!r}: type one such as utf-8, utf-16 or cp1252") from error
    return codecs.lookup(name).name.removesuffix("-sig")


@contextmanager
def in_utf_8(file: IO[bytes], encoding: str) -> Iterator[IO[bytes]]:
    """Opens a temporary file with the text of another one in UTF-8; what cannot be decoded is not UTF-8 there."""
    decoder = codecs.getincrementaldecoder(encoding)(_SPOILT)
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as text:
        while chunk := file.read(1 << 20):
            text.write(decoder.decode(chunk).encode(errors=_SPOILT))
        text.write(decoder.decode(b"", final=True).encode(errors=_SPOILT))
        text.seek(0)
        yield text  # type: ignore[misc]
