"""Trains variants of a model family on the run's own splits, without the graph around it.

    .venv/bin/python benchmarks/experiment.py --data DIR [--model bert] [--set KEY=VALUE]... [--seeds 1 2 3]
                                              [--rows N] [--read-test]

Same reader, same split, same token ids, same training code as ``newsdesk run --preset ag-news``, and so the same
accuracy; a variant costs its training and a few seconds. Choices are made on ``eval``; ``--read-test`` adds the test
split and is for the end.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
import tensorflow as tf
import tf_keras

from components import features
from components.example_gen.ingest import eval_or_train
from components.example_gen.reader import Row, read_records
from components.example_gen.source import Source, find_source, open_lines
from components.text.vocabulary import read_vocabulary
from components.text.wordpiece import WordPiece
from components.text.words import break_lines, clean_keeping_case, tokenize
from pipeline.config.config import Config, override
from pipeline.config.families import FAMILIES, Downloads, Prepared
from pipeline.config.families import prepare as prepare_family
from pipeline.config.presets import make_config
from pipeline.source_digest import source_digest
from trainers.bert import model as bert
from trainers.bert.family import FAMILY as BERT
from trainers.fit import History, evaluate, fit
from trainers.input import Rows
from trainers.transformer import model as transformer
from trainers.transformer.family import FAMILY as TRANSFORMER

_BATCH = 1000
Texts = dict[str, list[tuple[str, int]]]


def read_texts(source: Source, eval_fraction: float) -> Texts:
    """Returns text and class id of every row, per split."""
    splits: Texts = {split: [] for split in features.SPLITS}
    for name, split in ((source.train, None), (source.test, features.TEST)):
        with open_lines(str(Path(source.directory) / name)) as lines:
            for record in read_records(lines):
                if isinstance(record, Row):
                    where = split or eval_or_train(record.split_key, eval_fraction)
                    splits[where].append((record.text, int(record.label) - 1))
    return splits


def encode(texts: Texts, config: Config, prepared: Prepared) -> dict[str, Rows]:
    """Returns every split as token ids, by the tokenisation of the configured family."""
    if config.model == "bert":
        settings = BERT.of(config).bert
        said = {name: prepared[name] for name in ("lower_case", "strip_accents", "tokenize_chinese_chars")}
        pieces = WordPiece(read_vocabulary(prepared["vocabulary"]), max_tokens=settings.max_tokens, **said)
        clean = clean_keeping_case if settings.clean else break_lines
        return {split: _to_rows(rows, lambda batch: pieces(clean(batch)).to_list()) for split, rows in texts.items()}

    text = TRANSFORMER.of(config).text

    def words(batch: tf.Tensor) -> list[list[bytes]]:
        return tokenize(batch, text.max_tokens, text.clean).to_list()

    counts: Counter[bytes] = Counter()
    train = texts[features.TRAIN]
    for start in range(0, len(train), _BATCH):
        counts.update(word for row in words(_texts(train[start : start + _BATCH])) for word in row)
    # In the order of TensorFlow Transform, or pairs of words would meet in other buckets than they do in a run.
    ranked = sorted(counts, key=lambda word: (counts[word], word), reverse=True)
    kept = ranked[: text.vocab_size - features.RESERVED_IDS]
    known = [word for word in kept if counts[word] >= text.min_count]
    ids = {word: number for number, word in enumerate(known, features.RESERVED_IDS)}
    return {
        split: _to_rows(rows, lambda batch: [[ids.get(word, features.OOV_ID) for word in row] for row in words(batch)])
        for split, rows in texts.items()
    }


def _texts(rows: list[tuple[str, int]]) -> tf.Tensor:
    return tf.constant([text for text, _ in rows])


def _to_rows(rows: list[tuple[str, int]], to_ids: Callable[[tf.Tensor], list[list[int]]]) -> Rows:
    ids = [row for start in range(0, len(rows), _BATCH) for row in to_ids(_texts(rows[start : start + _BATCH]))]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
    flat = np.fromiter((item for row in ids for item in row), np.int32)
    return Rows(flat, starts, np.array([label for _, label in rows], np.int32))


def some(rows: list[tuple[str, int]], count: int | None) -> list[tuple[str, int]]:
    """Returns ``count`` rows chosen at random, always the same ones, in their order."""
    if count is None or count >= len(rows):
        return rows
    return [rows[number] for number in np.sort(np.random.default_rng(7).permutation(len(rows))[:count])]


def train(config: Config, rows: dict[str, Rows], classes: int, prepared: Prepared) -> tuple[History, Callable]:
    """Trains one model as the family's ``run_fn`` does; returns its history and what measures it on other rows."""
    held_in, held_out = rows[features.TRAIN], rows[features.EVAL]
    if config.model == "transformer":
        own = TRANSFORMER.of(config)
        tf_keras.utils.set_random_seed(own.transformer.seed)
        model = transformer.build(own.transformer, own.text.vocab_size, own.text.max_tokens, classes)
        transformer.begin_with_counts(own.transformer, model, held_in)
        history = fit(model, own.transformer, held_in, held_out, transformer.TABLES)
        return history, lambda split: evaluate(model, split)
    settings = BERT.of(config).bert
    tf_keras.utils.set_random_seed(settings.seed)
    vocab_size = len(read_vocabulary(prepared["vocabulary"]))
    built = bert.build(settings, prepared["training"], vocab_size, classes)
    if settings.train == "frozen":
        train, held = (bert.encode(built.encoder, split, "rows") for split in (held_in, held_out))
        history = fit(built.head, settings.head_fit(), train, held, bert.TABLES)
    else:
        learning = bert.trained_variables(settings, built.whole)
        history = fit(built.whole, settings, held_in, held_out, bert.TABLES, learning)
    return history, lambda split: evaluate(built.whole, split)


def prepare(config: Config) -> Prepared:
    """Brings into place what the family needs."""
    cache = Path(os.environ.get("NEWSDESK_CACHE", "~/.cache/newsdesk")).expanduser()
    return prepare_family(config, Downloads(cache, os.environ, print, source_digest))


def main() -> None:
    """Trains the variant once per seed and prints one line each, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.csv and test.csv")
    parser.add_argument("--model", default="transformer", choices=list(FAMILIES))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--preset", default="ag-news")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--rows", type=int, help="train on so many rows only")
    parser.add_argument("--read-test", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show the progress of the training")
    arguments = parser.parse_args()
    if arguments.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    assignments = dict(item.split("=", 1) for item in arguments.settings) | {"model": arguments.model}
    config = override(make_config(arguments.preset), assignments)
    prepared = prepare(config)
    source = find_source(arguments.data)
    texts = read_texts(source, config.data.eval_fraction)
    texts[features.TRAIN] = some(texts[features.TRAIN], arguments.rows)
    rows = encode(texts, config, prepared)

    print(f"variant: {' '.join(arguments.settings) or 'as preset'}; {len(rows[features.TRAIN]):,} train rows")
    results = []
    for seed in arguments.seeds:
        seeded = override(config, {f"{config.model}.seed": str(seed)})
        history, measure = train(seeded, rows, len(source.classes), prepared)
        best = history.epochs[history.best_epoch - 1]
        tested = measure(rows[features.TEST])[1] if arguments.read_test else float("nan")
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
