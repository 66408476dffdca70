"""Exports a trained model with the two signatures that every family has."""

from pathlib import Path

import tensorflow as tf
import tf_keras

from components import features


class Classifier(tf.Module):
    """Text in, label and probabilities out.

    Both signatures run the same computation, so the one that is evaluated is the one that is served.
    """

    def __init__(self, model: tf_keras.Model, transform: tf_keras.Model, classes: tuple[str, ...]):
        """Wraps a trained model.

        Args:
            model: From dense token ids, int32 [N, T], to logits, float32 [N, C].
            transform: The Transform graph as a layer; turns ``text`` string [N, 1] into sparse token ids.
            classes: Names in label-id order.
        """
        super().__init__(name="classifier")
        self.model = model
        self.transform = transform
        self.classes = tf.constant(classes)

    @tf.function(autograph=False)
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies texts, string [N], into label string [N], label_id int64 [N], probabilities float32 [N, C]."""
        transformed = self.transform({features.TEXT: text[:, tf.newaxis]})
        ids = tf.cast(tf.sparse.to_dense(transformed[features.TOKEN_IDS]), tf.int32)
        probabilities = tf.nn.softmax(self.model(ids, training=False))
        label_id = tf.argmax(probabilities, axis=1)
        return {
            features.OUTPUT_LABEL: tf.gather(self.classes, label_id),
            features.OUTPUT_LABEL_ID: label_id,
            features.OUTPUT_PROBABILITIES: probabilities,
        }

    @tf.function(autograph=False)
    def classify_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies serialized tf.Examples, string [N], with the bytes feature ``text``."""
        spec = {features.TEXT: tf.io.FixedLenFeature([], tf.string)}
        return self.classify(tf.io.parse_example(examples, spec)[features.TEXT])


def export(model: tf_keras.Model, transform: tf_keras.Model, classes: tuple[str, ...], directory: str) -> None:
    """Writes a SavedModel with ``serving_default`` and ``serve_examples``, and ``assets.extra/classes.txt``.

    Args:
        model: From dense token ids, int32 [N, T], to logits, float32 [N, C].
        transform: The Transform graph as a layer.
        classes: Names in label-id order.
        directory: Where to write; made if missing.
    """
    classifier = Classifier(model, transform, classes)
    signatures = {
        features.SERVING_SIGNATURE: classifier.classify.get_concrete_function(
            tf.TensorSpec([None], tf.string, name=features.TEXT)
        ),
        features.EXAMPLES_SIGNATURE: classifier.classify_examples.get_concrete_function(
            tf.TensorSpec([None], tf.string, name=features.EXAMPLES_INPUT)
        ),
    }
    tf.saved_model.save(classifier, directory, signatures=signatures)
    extra = Path(directory) / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / features.CLASSES_FILE).write_text("\n".join(classes) + "\n", encoding="utf-8")
