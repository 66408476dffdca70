"""The WordPiece ids of our graph against the ``tokenizers`` library, on every row of a test file.

    .venv/bin/python benchmarks/tokenizer_parity.py --data DIR --encoder DIR

``--data`` holds test.csv, ``--encoder`` the encoder's vocab.txt; case is folded if the vocabulary is uncased. Prints
rows that differ, which must be none, tokens per row, rows cut at ``--max-tokens`` and speed, for text as it is and for
cleaned text. The exit code is 1 if any row differs. Speed is that of one thread, in tf.data here and row by row
there, the best of three passes.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from components.example_gen.reader import Row, read_records
from components.text.vocabulary import CLS, SEP, UNK, is_cased, read_vocabulary
from components.text.wordpiece import MAX_WORD_CHARACTERS, WordPiece
from components.text.words import clean_keeping_case

_BATCH = 256
_ANY_LENGTH = 1_000_000
_SHOWN = 5
_PASSES = 3


def make_reference(pieces: tuple[str, ...], lower_case: bool) -> Tokenizer:
    """Returns BERT's tokeniser as the library puts it together, without truncation."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    reference = Tokenizer(models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=MAX_WORD_CHARACTERS))
    reference.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    reference.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    reference.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}", special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])]
    )
    return reference


def ours(texts: list[str], tokenizer: WordPiece) -> tuple[list[list[int]], float]:
    """Returns ids and seconds, in tf.data on one thread."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensor_slices(texts).batch(_BATCH)
    batches = batches.map(lambda batch: tokenizer(batch)).with_options(options)
    seconds = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        ids = list(batches)
        seconds.append(time.perf_counter() - started)
    return [row for batch in ids for row in batch.to_list()], min(seconds)


def theirs(texts: list[str], reference: Tokenizer) -> tuple[list[list[int]], float]:
    """Returns ids and seconds, row by row."""
    seconds = []
    for _ in range(_PASSES):
        started = time.perf_counter()
        ids = [reference.encode(text).ids for text in texts]
        seconds.append(time.perf_counter() - started)
    return ids, min(seconds)


def compare(name: str, texts: list[str], pieces: tuple[str, ...], lower_case: bool, max_tokens: int) -> int:
    """Prints one comparison; returns the rows that differ."""
    reference = make_reference(pieces, lower_case)
    lengths = np.array([len(row) for row in theirs(texts, reference)[0]])
    reference.enable_truncation(max_tokens)
    expected, their_seconds = theirs(texts, reference)
    found, our_seconds = ours(texts, WordPiece(pieces, lower_case, max_tokens))
    whole = [len(row) for row in ours(texts, WordPiece(pieces, lower_case, _ANY_LENGTH))[0]]
    different = [
        number
        for number, (row, want, length) in enumerate(zip(found, expected, whole, strict=True))
        if row != want or length != lengths[number]
    ]
    percentiles = ", ".join(f"p{share} {np.percentile(lengths, share):.0f}" for share in (50, 90, 95, 99, 100))
    print(f"{name}: {len(texts):,} rows compared, {len(different):,} different")
    for number in different[:_SHOWN]:
        print(f"  row {number + 1}: ours {found[number]}, theirs {expected[number]}, text {texts[number]!r}")
    print(f"  tokens per row: mean {lengths.mean():.2f}, {percentiles}")
    print(f"  rows cut at {max_tokens}: {(lengths > max_tokens).sum():,}")
    print(f"  rows per second: {len(texts) / our_seconds:,.0f} ours, {len(texts) / their_seconds:,.0f} theirs")
    return len(different)


def main() -> int:
    """Compares text as it is and cleaned text; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with test.csv")
    parser.add_argument("--encoder", type=Path, required=True, help="directory with vocab.txt")
    parser.add_argument("--max-tokens", type=int, default=128)
    arguments = parser.parse_args()
    pieces = read_vocabulary(arguments.encoder / "vocab.txt")
    lower_case = not is_cased(pieces)
    with (arguments.data / "test.csv").open(encoding="utf-8", newline="", errors="surrogateescape") as file:
        raw = [row.text for row in read_records(file) if isinstance(row, Row)]
    cleaned = [text.decode() for text in clean_keeping_case(tf.constant(raw)).numpy()]
    different = compare("raw", raw, pieces, lower_case, arguments.max_tokens)
    different += compare("cleaned", cleaned, pieces, lower_case, arguments.max_tokens)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
