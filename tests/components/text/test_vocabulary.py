"""Vocabularies are read as they are, or refused in one sentence that says what to do."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import BadInputError
from components.text.vocabulary import MAX_PIECE_BYTES, check_casing, is_cased, read_vocabulary, vocabulary_digest

SPECIAL = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>")
UNCASED = (*SPECIAL, "oil", "##s", "é", "\u211d", "5", "北")
CASED = (*SPECIAL, "Oil", "oil", "##s")
CASELESS = (*SPECIAL, "北", "ไท", "##ย", "5", "!")

Write = Callable[[bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a vocabulary file."""

    def make(content: bytes | str) -> Path:
        path = tmp_path / "vocab.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def test_pieces_stand_in_the_order_of_the_file(write: Write) -> None:
    assert read_vocabulary(write("\n".join(UNCASED) + "\n")) == UNCASED


def test_the_last_line_need_not_end(write: Write) -> None:
    assert read_vocabulary(str(write("\n".join(UNCASED)))) == UNCASED


def test_windows_line_ends_are_no_part_of_a_piece(write: Write) -> None:
    assert read_vocabulary(write("\r\n".join(UNCASED) + "\r\n")) == UNCASED


def test_separators_that_are_pieces_do_not_shift_later_ids(write: Write) -> None:
    pieces = (*SPECIAL, "\u2028", "\x85", "a b", "oil ", "oil")
    assert read_vocabulary(write("\n".join(pieces) + "\n")) == pieces


def test_the_longest_piece_is_read(write: Write) -> None:
    pieces = (*SPECIAL, "##" + "é" * (MAX_PIECE_BYTES // 2))
    assert read_vocabulary(write("\n".join(pieces))) == pieces


HEAD = "\n".join(SPECIAL) + "\n"
BAD = {
    "empty": ("", "is empty"),
    "only_a_line_end": ("\n", "is empty"),
    "not_utf8": (HEAD.encode() + b"caf\xe9\n", "is not UTF-8 text (invalid continuation byte at byte 48)"),
    "blank_line": (HEAD + "oil\n\nbank\n", "line 9 of the vocabulary"),
    "blank_line_at_the_end": (HEAD + "oil\n\n", "line 9 of the vocabulary"),
    "nul": (HEAD + "o\0il\n", "holds a NUL character"),
    "too_long": (HEAD + "x" * (MAX_PIECE_BYTES + 1), "has 257 bytes, more than the 256"),
    "twice": (HEAD + "oil\nbank\noil\n", "names 'oil' twice, in lines 8 and 10"),
    "no_padding": ("[UNK]\n[CLS]\n[SEP]\n", "begins with '[UNK]', but id 0 is padding here and must be [PAD]"),
    "padding_behind": ("[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "begins with '[UNK]'"),
    "byte_order_mark": ("\ufeff" + HEAD, "begins with '\\ufeff[PAD]'"),
    "no_special": ("[PAD]\n[CLS]\noil\n", "lacks [UNK], [SEP]"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_sentence(write: Write, content: bytes | str, message: str) -> None:
    path = write(content)
    with pytest.raises(BadInputError) as raised:
        read_vocabulary(path)
    sentence = str(raised.value)
    assert message in sentence
    assert str(path) in sentence
    assert sentence.endswith(": use the vocab.txt that belongs to the encoder")
    assert "\n" not in sentence


@pytest.mark.parametrize("read", [read_vocabulary, vocabulary_digest])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(BadInputError, match=r"vocab\.txt cannot be read \(No such file or directory\): use the"):
        read(tmp_path / "vocab.txt")
    with pytest.raises(BadInputError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_the_digest_is_that_of_the_bytes(write: Write) -> None:
    path = write(HEAD)
    digest = hashlib.sha256(HEAD.encode()).hexdigest()
    assert vocabulary_digest(path) == digest
    assert read_vocabulary(path, digest) == SPECIAL


def test_a_changed_file_is_refused(write: Write) -> None:
    digest = vocabulary_digest(write(HEAD))
    path = write(HEAD + "oil\n")
    with pytest.raises(BadInputError, match=rf"changed after the run was configured \(SHA-256 \w+, not {digest}\)"):
        read_vocabulary(path, digest)


@pytest.mark.parametrize(("pieces", "cased"), [(UNCASED, False), (CASED, True), (CASELESS, False), (SPECIAL, False)])
def test_only_ordinary_pieces_with_an_upper_case_letter_make_it_cased(pieces: tuple[str, ...], cased: bool) -> None:
    assert is_cased(pieces) is cased


@pytest.mark.parametrize("piece", ["##S", "McD", "Ö", "Ж", "[B", "<B"])
def test_an_upper_case_letter_anywhere_counts(piece: str) -> None:
    assert is_cased((*UNCASED, piece))


@pytest.mark.parametrize(
    ("pieces", "lower_case"), [(UNCASED, True), (CASED, False), (CASELESS, True), (CASELESS, False)]
)
def test_casing_that_agrees_passes(pieces: tuple[str, ...], lower_case: bool) -> None:
    check_casing(pieces, lower_case, "vocab.txt")


@pytest.mark.parametrize(
    ("pieces", "lower_case", "advice"),
    [(CASED, True, "is cased.*: set bert.lower_case=false$"), (UNCASED, False, ": set bert.lower_case=true$")],
)
def test_casing_that_disagrees_is_refused(pieces: tuple[str, ...], lower_case: bool, advice: str) -> None:
    with pytest.raises(BadInputError, match=rf"^the vocabulary encoder/vocab\.txt .*{advice}"):
        check_casing(pieces, lower_case, "encoder/vocab.txt", "bert.lower_case")
