"""Pushed versions that are small, real and told apart: a text's class is its length in bytes, moved on, modulo four."""

from pathlib import Path

from components.push.aliases import write_aliases
from components.push.manifest import MANIFEST, hash_model, make_manifest

CLASSES = ("World", "Sports", "Business", "Sci/Tech")


def push_tiny(serving: Path, number: int, name: str = "ag_news", without: str | None = None) -> Path:
    """Writes version ``number``, whose classes are moved on by as many and have probability 0.4 + ``number`` / 10.

    It lacks the signature ``without``, if one is named.
    """
    import tensorflow as tf

    module = tf.Module()
    module.classes = tf.constant(CLASSES)
    sure = 0.4 + number / 10

    @tf.function(autograph=False)
    def classify(text: tf.Tensor) -> dict[str, tf.Tensor]:
        label_id = tf.cast((tf.strings.length(text) + number) % 4, tf.int64)
        return {
            "label": tf.gather(module.classes, label_id),
            "label_id": label_id,
            "probabilities": tf.one_hot(label_id, 4, on_value=sure, off_value=(1 - sure) / 3),
        }

    @tf.function(autograph=False)
    def classify_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {"text": tf.io.FixedLenFeature([], tf.string)}
        return classify(tf.io.parse_example(examples, spec)["text"])

    temporary = serving / name / f".tmp-{number}"
    signatures = {
        "serving_default": classify.get_concrete_function(tf.TensorSpec([None], tf.string, name="text")),
        "serve_examples": classify_examples.get_concrete_function(tf.TensorSpec([None], tf.string, name="examples")),
    }
    signatures.pop(without, None)
    tf.saved_model.save(module, str(temporary), signatures=signatures)
    (temporary / "assets.extra").mkdir()
    (temporary / "assets.extra" / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    (temporary / MANIFEST).write_text(make_manifest(number, hash_model(temporary), {}), encoding="utf-8")
    return temporary.rename(serving / name / str(number))


def point(serving: Path, name: str = "ag_news", **aliases: int) -> None:
    """Moves the aliases of a model."""
    write_aliases(serving, name, aliases)


def expect(text: str, number: int) -> tuple[str, float]:
    """Returns the class and the probability that a version answers."""
    return CLASSES[(len(text.encode()) + number) % 4], round(0.4 + number / 10, 4)
