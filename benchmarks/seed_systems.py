"""Every system of the teaching notebook: what it published, the same recipe and flaw run again here, and ours.

    .venv/bin/python benchmarks/seed_systems.py --data DIR [--rows 4000] [--system NAME]...

The from-scratch transformer runs on all rows, by ``seed_notebook.py`` and by ``newsdesk run --preset ag-news``. The
weights of the notebook's BERT systems are not to be had without TF-Hub and Hugging Face, so those run with
``minilm-l6``, on ``--rows`` train rows and every test row, and the table says so. Of their recipes the results and the
flaws are known; the rest is the usual: rows padded to 128, batches of 32, ``pooled_output``, dropout of 0.1, AdamW at
3e-5 with 10 % warm-up, one epoch. ``ours`` trains the same encoder on the same rows with this project's settings.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras
from experiment import encode, prepare, read_texts, some, train

from components import features
from components.example_gen.source import find_source
from pipeline.config.config import override
from pipeline.config.families import Prepared
from pipeline.config.presets import make_config
from trainers.bert.family import FAMILY as BERT
from trainers.input import Rows
from trainers.optimizer import WarmupLinearDecay

LENGTH, BATCH, RATE, WARMUP = 128, 32, 3e-5, 0.1


@dataclass(frozen=True)
class System:
    """One system of the notebook.

    Attributes:
        title, published, flaw: For the table.
        settings: Of this project's own run.
    """

    title: str
    published: float
    flaw: str
    settings: dict[str, str]


SYSTEMS = {
    "transformer": System("transformer from scratch", 0.9124, "256 tokens a row, no mask", {}),
    "frozen": System("frozen BERT", 0.7888, "pooled output, one epoch of the head", {"bert.train": "frozen"}),
    "fine-tuned": System("fine-tuned BERT", 0.8247, "warm-up counted in rows: the rate never gets there", {}),
    "hugging-face": System("Hugging Face BERT", 0.2480, "loss without from_logits, no mask, 32 steps", {}),
}


def padded(rows: Rows) -> np.ndarray:
    """Returns all rows padded to ``LENGTH``, int32 [N, LENGTH]."""
    ids = np.zeros((len(rows), LENGTH), np.int32)
    ids[np.arange(LENGTH) < rows.lengths[:, None]] = rows.ids
    return ids


def run_flawed(name: str, rows: dict[str, Rows], classes: int, prepared: Prepared) -> float:
    """Trains a BERT system with the notebook's recipe and flaw; returns its accuracy on ``test``."""
    tf_keras.utils.set_random_seed(1)
    ids = tf_keras.Input((LENGTH,), dtype=tf.int32)
    mask = tf.ones_like(ids) if name == "hugging-face" else tf.cast(ids != features.PADDING_ID, tf.int32)
    inputs = {"input_word_ids": ids, "input_mask": mask, "input_type_ids": tf.zeros_like(ids)}
    pooled = hub.KerasLayer(prepared["training"], trainable=name != "frozen")(inputs)["pooled_output"]
    logits = tf_keras.layers.Dense(classes)(tf_keras.layers.Dropout(0.1)(pooled))
    model = tf_keras.Model(ids, logits)
    split = rows[features.TRAIN]
    batches = math.ceil(len(split) / BATCH)
    # The flaw of the fine-tuned system: rows where batches belong.
    total = len(split) if name == "fine-tuned" else batches
    optimizer = tf_keras.optimizers.AdamW(
        WarmupLinearDecay(RATE, int(WARMUP * total), total), weight_decay=0.01, jit_compile=False
    )
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=name != "hugging-face")
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(
        padded(split),
        split.labels,
        batch_size=BATCH,
        epochs=1,
        steps_per_epoch=min(32, batches) if name == "hugging-face" else None,
        verbose=0,
    )
    test = rows[features.TEST]
    return float(model.evaluate(padded(test), test.labels, batch_size=128, verbose=0)[1])


def run_bert(names: list[str], data: Path, count: int) -> list[list[str]]:
    """Runs the notebook's BERT systems and ours on the same rows; returns the table's lines."""
    lines: list[list[str]] = []
    ours: dict[str, float] = {}
    for name in names:
        system = SYSTEMS[name]
        config = override(make_config("ag-news"), {"model": "bert"} | system.settings)
        prepared = prepare(config)
        source = find_source(data)
        texts = read_texts(source, config.data.eval_fraction)
        texts[features.TRAIN] = some(texts[features.TRAIN], count)
        rows = encode(texts, config, prepared)
        flawed = run_flawed(name, rows, len(source.classes), prepared)
        # Two of the systems are one and the same without their flaws.
        key = json.dumps(system.settings)
        if key not in ours:
            _, measure = train(config, rows, len(source.classes), prepared)
            ours[key] = measure(rows[features.TEST])[1]
        lines.append(_line(system, BERT.of(config).bert.encoder, len(rows[features.TRAIN]), flawed, ours[key]))
        print(lines[-1][0], "done", file=sys.stderr, flush=True)
    return lines


def run_transformer(data: Path) -> list[str]:
    """Runs the notebook's transformer and ours, each as a process; returns the table's line."""
    script = Path(__file__).with_name("seed_notebook.py")
    notebook = _json([sys.executable, str(script), "--data", str(data)])
    with tempfile.TemporaryDirectory() as workspace:
        place = ["--data", str(data), "--workspace", workspace]
        ours = _json([sys.executable, "-m", "pipeline.cli.main", "run", "--json", "--preset", "ag-news", *place])
    rows = len(read_texts(find_source(data), make_config("ag-news").data.eval_fraction)[features.TRAIN])
    return _line(SYSTEMS["transformer"], "none", rows, notebook["test_accuracy"], ours["metrics"]["accuracy"])


def _line(system: System, encoder: str, rows: int, flawed: float, ours: float) -> list[str]:
    return [system.title, f"{system.published:.4f}", system.flaw, encoder, f"{rows:,}", f"{flawed:.4f}", f"{ours:.4f}"]


def _json(command: list[str]) -> dict:
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    """Runs the systems and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.csv and test.csv")
    parser.add_argument("--rows", type=int, default=4000, help="train rows of the BERT systems")
    parser.add_argument("--system", action="append", choices=list(SYSTEMS), dest="systems")
    arguments = parser.parse_args()
    names = arguments.systems or list(SYSTEMS)
    lines = [run_transformer(arguments.data)] if "transformer" in names else []
    lines += run_bert([name for name in names if name != "transformer"], arguments.data, arguments.rows)
    head = ["system", "published", "flaw", "encoder of both re-runs", "train rows", "same recipe and flaw", "ours"]
    for line in (head, ["---"] * len(head), *lines):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
