"""Trains variants of the from-scratch transformer on the run's own splits, without the graph around it.

    .venv/bin/python benchmarks/experiment.py --data DIR [--set KEY=VALUE]... [--seeds 1 2 3] [--read-test]

Same reader, same split, same tokenisation, same training code as ``newsdesk run --preset ag-news``; a variant costs its
training and a few seconds. Choices are made on ``eval``; ``--read-test`` adds the test split and is for the end.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
from collections import Counter
from pathlib import Path
from statistics import mean

import numpy as np
import tensorflow as tf
import tf_keras

from components import features
from components.example_gen.ingest import eval_or_train
from components.example_gen.reader import Row, read_records
from components.example_gen.source import Source, find_source, open_lines
from components.text import tokenize
from pipeline.config import Config, override
from pipeline.presets import make_config
from trainers.fit import evaluate, fit
from trainers.input import Rows
from trainers.transformer.model import TABLES, build

_BATCH = 1000


def read_splits(source: Source, config: Config) -> dict[str, list[tuple[list[bytes], int]]]:
    """Returns tokens and class id of every row, per split."""
    splits: dict[str, list[tuple[list[bytes], int]]] = {split: [] for split in features.SPLITS}
    for name, split in ((source.train, None), (source.test, features.TEST)):
        with open_lines(str(source.directory / name)) as lines:
            rows = [record for record in read_records(lines) if isinstance(record, Row)]
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            tokens = tokenize(tf.constant([row.text for row in batch]), config.text.max_tokens).to_list()
            for row, words in zip(batch, tokens, strict=True):
                where = split or eval_or_train(row.text, config.data.eval_fraction)
                splits[where].append((words, int(row.label) - 1))
    return splits


def encode(split: list[tuple[list[bytes], int]], vocabulary: dict[bytes, int]) -> Rows:
    """Returns a split as ids."""
    ids = [[vocabulary.get(word, features.OOV_ID) for word in words] for words, _ in split]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    flat = np.fromiter((item for row in ids for item in row), np.int32)
    return Rows(flat, starts, np.array([label for _, label in split], np.int32))


def main() -> None:
    """Trains the variant once per seed and prints one table row each, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.csv and test.csv")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--preset", default="ag-news")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--read-test", action="store_true")
    arguments = parser.parse_args()
    config = override(make_config(arguments.preset), dict(item.split("=", 1) for item in arguments.settings))
    source = find_source(arguments.data)
    splits = read_splits(source, config)
    counts = Counter(word for words, _ in splits[features.TRAIN] for word in words)
    kept = counts.most_common(config.text.vocab_size - features.RESERVED_IDS)
    words = [word for word, count in kept if count >= config.text.min_count]
    vocabulary = {word: number for number, word in enumerate(words, features.RESERVED_IDS)}
    rows = {split: encode(content, vocabulary) for split, content in splits.items()}

    print(f"variant: {' '.join(arguments.settings) or 'as preset'}")
    results = []
    for seed in arguments.seeds:
        settings = config.transformer.model_copy(update={"seed": seed})
        tf_keras.utils.set_random_seed(seed)
        model = build(settings, config.text.vocab_size, config.text.max_tokens, len(source.classes))
        history = fit(model, settings, rows[features.TRAIN], rows[features.EVAL], TABLES)
        best = history.epochs[history.best_epoch - 1]
        tested = evaluate(model, rows[features.TEST])[1] if arguments.read_test else float("nan")
        seconds = sum(epoch.seconds for epoch in history.epochs)
        results.append((best.eval_accuracy, best.eval_loss, tested, seconds))
        print(
            f"seed {seed}: eval {best.eval_accuracy:.4f}, eval loss {best.eval_loss:.4f}, test {tested:.4f}, "
            f"{seconds:.0f} s training, {history.parameters:,} parameters",
            flush=True,
        )
    accuracy, loss, tested, seconds = (mean(column) for column in zip(*results, strict=True))
    print(f"mean: eval {accuracy:.4f}, eval loss {loss:.4f}, test {tested:.4f}, {seconds:.0f} s training")


if __name__ == "__main__":
    main()
