"""The teaching notebook's from-scratch transformer as it was: its recipe, its flaws, its cost.

    .venv/bin/python benchmarks/seed_notebook.py --data DIR

Keeps what the notebook does: 20,000 words, every row padded to 256, no mask, mean over padding, width 32, two
heads, feed-forward 32, one epoch in batches of 32 with plain Adam. Prints one JSON object with seconds and test
accuracy. It is what a whole ``newsdesk run`` is timed against, in the same sitting.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import csv
import json
import time
from pathlib import Path

STARTED = time.perf_counter()

import tensorflow as tf
import tf_keras
from tf_keras import layers

VOCABULARY, LENGTH, WIDTH, HEADS, FEED_FORWARD, BATCH = 20_000, 256, 32, 2, 32, 32


def read(path: Path) -> tuple[list[str], list[int]]:
    """Returns texts and class ids of a file in the AG News layout."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [(f"{title} {description}", int(label) - 1) for label, title, description in csv.reader(file)]
    texts, labels = zip(*rows, strict=True)
    return list(texts), list(labels)


def build() -> tf_keras.Model:
    """Returns the notebook's model: 659,592 parameters, no mask anywhere."""
    ids = layers.Input((LENGTH,))
    words = layers.Embedding(VOCABULARY, WIDTH)(ids)
    positions = layers.Embedding(LENGTH, WIDTH)(tf.range(LENGTH))
    states = words + positions
    attended = layers.Dropout(0.1)(layers.MultiHeadAttention(HEADS, WIDTH)(states, states))
    states = layers.LayerNormalization(epsilon=1e-6)(states + attended)
    fed = layers.Dense(WIDTH)(layers.Dense(FEED_FORWARD, activation="relu")(states))
    states = layers.LayerNormalization(epsilon=1e-6)(states + layers.Dropout(0.1)(fed))
    pooled = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(states))
    hidden = layers.Dropout(0.1)(layers.Dense(20, activation="relu")(pooled))
    return tf_keras.Model(ids, layers.Dense(4, activation="softmax")(hidden))


def main() -> None:
    """Trains for one epoch, evaluates, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.csv and test.csv")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tf_keras.utils.set_random_seed(arguments.seed)

    train_texts, train_labels = read(arguments.data / "train.csv")
    test_texts, test_labels = read(arguments.data / "test.csv")
    vectorize = layers.TextVectorization(VOCABULARY, output_sequence_length=LENGTH)
    vectorize.adapt(tf.data.Dataset.from_tensor_slices(train_texts).batch(1024))
    datasets = [
        tf.data.Dataset.from_tensor_slices((texts, labels)).batch(BATCH).map(lambda x, y: (vectorize(x), y))
        for texts, labels in ((train_texts, train_labels), (test_texts, test_labels))
    ]
    train = datasets[0].shuffle(1000, seed=arguments.seed).prefetch(tf.data.AUTOTUNE)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    training = time.perf_counter()
    model.fit(train, epochs=1, verbose=0)
    trained = time.perf_counter()
    accuracy = model.evaluate(datasets[1], verbose=0)[1]
    result = {
        "test_accuracy": round(float(accuracy), 4),
        "parameters": model.count_params(),
        "training_seconds": round(trained - training, 1),
        "seconds": round(time.perf_counter() - STARTED, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
