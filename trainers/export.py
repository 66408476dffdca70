"""Exports a trained model with the two signatures that every family has."""

from pathlib import Path

import tensorflow as tf
import tf_keras
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from components import features
from components.file_names import CLASSES_FILE

_CHUNK = 64


class TransformGraph(tf.Module):
    """The Transform graph: ``text`` string [N, 1] in, sparse token ids out.

    Transform itself offers it as a Keras layer. A Keras layer that is saved is traced once more, its source converted,
    for a loader that nobody has, which takes longer than all the rest of an export.
    """

    def __init__(self, directory: str):
        """Loads the SavedModel of Transform's output."""
        super().__init__(name="transform")
        self._loader = SavedModelLoader(directory)
        # Tables and vocabulary files are found through these, as in Transform's own layer.
        self._parts = vars(self._loader)

    def __call__(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.SparseTensor]:
        """Transforms a batch."""
        outputs: dict[str, tf.SparseTensor] = self._loader.apply_transform_model(inputs)
        return outputs


class Classifier(tf.Module):
    """Text in, label and probabilities out.

    Both signatures run the same computation, so the one that is evaluated is the one that is served.
    """

    def __init__(self, model: tf_keras.Model, transform: TransformGraph, classes: tuple[str, ...]):
        """Wraps a trained model; arguments as in ``export``."""
        super().__init__(name="classifier")
        # Saved are its weights. The model itself is out of sight in a function, for the reason that ``TransformGraph``
        # gives.
        self.weights = model.variables
        self.logits = lambda ids: model(ids, training=False)
        self.transform = transform
        self.classes = tf.constant(classes)
        self.width = len(classes)

    @tf.function(autograph=False)
    def classify(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies texts, string [N], into label string [N], label_id int64 [N], probabilities float32 [N, C]."""
        transformed = self.transform({features.TEXT: text[:, tf.newaxis]})
        probabilities = self._probabilities(tf.RaggedTensor.from_sparse(transformed[features.TOKEN_IDS]))
        label_id = tf.argmax(probabilities, axis=1)
        return {
            features.OUTPUT_LABEL: tf.gather(self.classes, label_id),
            features.OUTPUT_LABEL_ID: label_id,
            features.OUTPUT_PROBABILITIES: probabilities,
        }

    def _probabilities(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Runs the model over chunks of similar length, each padded to its own longest text.

        However many texts a request brings, memory stays bounded, and short texts do not pay for long ones.
        """
        rows = ids.nrows(tf.int32)
        order = tf.argsort(ids.row_lengths())
        results = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=[None, self.width])

        def classify_chunk(start: tf.Tensor, results: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            chunk = tf.gather(ids, order[start : start + _CHUNK]).to_tensor(features.PADDING_ID)
            logits = self.logits(tf.cast(chunk, tf.int32))
            return start + _CHUNK, results.write(start // _CHUNK, tf.nn.softmax(logits))

        _, results = tf.while_loop(lambda start, _: start < rows, classify_chunk, (0, results), parallel_iterations=1)
        return tf.gather(results.concat(), tf.math.invert_permutation(order))

    @tf.function(autograph=False)
    def classify_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Classifies serialized tf.Examples, string [N], with the bytes feature ``text``."""
        spec = {features.TEXT: tf.io.FixedLenFeature([], tf.string)}
        return self.classify(tf.io.parse_example(examples, spec)[features.TEXT])


def export(model: tf_keras.Model, transform: TransformGraph, classes: tuple[str, ...], directory: str) -> None:
    """Writes a SavedModel with ``serving_default`` and ``serve_examples``, and ``assets.extra/classes.txt``.

    Args:
        model: From dense token ids, int32 [N, T], to logits, float32 [N, C].
        transform: Turns ``text`` into token ids.
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
    (extra / CLASSES_FILE).write_text("\n".join(classes) + "\n", encoding="utf-8")
