"""Signatures as a pushed model has them."""

from serving.model.signatures import Signature, TensorInfo

INIT = Signature({}, {"__saved_model_init_op": TensorInfo("NoOp", "DT_INVALID", None)}, "")
"""What TensorFlow adds to every SavedModel."""


def make_signature(classes: int) -> Signature:
    """Returns the default signature of a model of so many classes."""
    return Signature(
        {"text": TensorInfo("serving_default_text:0", "DT_STRING", (-1,))},
        {
            "label": TensorInfo("StatefulPartitionedCall:0", "DT_STRING", (-1,)),
            "label_id": TensorInfo("StatefulPartitionedCall:1", "DT_INT64", (-1,)),
            "probabilities": TensorInfo("StatefulPartitionedCall:2", "DT_FLOAT", (-1, classes)),
        },
        "tensorflow/serving/predict",
    )
