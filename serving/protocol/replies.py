"""The replies of TensorFlow Serving's REST API, as pure functions; unlike its own they never hold NaN."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from components import features
from serving.errors import Code, RequestError
from serving.model.loaded import Answers
from serving.model.signatures import Signature, TensorInfo
from serving.repository.states import VersionStatus


def render_predictions(answers: Answers, rows: bool) -> bytes:
    """Returns the reply to a ``:predict``.

    Args:
        answers: N of them.
        rows: Whether to list rows or columns.

    Raises:
        RequestError: ``INTERNAL``, where the model gave a probability that is not a number: JSON has none such.
    """
    probabilities = finite(answers.probabilities)
    label_ids = answers.label_ids.tolist()
    reply: dict[str, Any]
    if rows:
        columns = zip(answers.labels, label_ids, probabilities, strict=True)
        reply = {"predictions": [_outputs(*row) for row in columns]}
    else:
        reply = {"outputs": _outputs(list(answers.labels), label_ids, probabilities)}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def finite(probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities, laid out for orjson.

    Raises:
        RequestError: ``INTERNAL``, where one is not a number.
    """
    if not np.isfinite(probabilities).all():
        raise RequestError(Code.INTERNAL, "The model answered with a probability that is not a number")
    return np.ascontiguousarray(probabilities)


def render_status(versions: Sequence[VersionStatus]) -> bytes:
    """Returns the reply to a request for the status of a model, newest version first."""
    newest_first = sorted(versions, key=lambda status: status.version, reverse=True)
    states = [
        {
            "version": str(status.version),
            "state": status.state.name,
            "status": {"error_code": status.code.name, "error_message": status.message},
        }
        for status in newest_first
    ]
    return orjson.dumps({"model_version_status": states})


def render_metadata(model: str, version: int, signatures: Mapping[str, Signature]) -> bytes:
    """Returns the reply to a request for the metadata of a version."""
    return orjson.dumps(
        {
            "model_spec": {"name": model, "signature_name": "", "version": str(version)},
            "metadata": {
                "signature_def": {"signature_def": {name: _signature(each) for name, each in signatures.items()}}
            },
        }
    )


def render_error(error: RequestError) -> bytes:
    """Returns the body of a refusal; the status is ``error.code.status``."""
    return orjson.dumps({"error": error.message.encode("utf-8", "replace").decode()})


def _outputs(label: Any, label_id: Any, probabilities: Any) -> dict[str, Any]:
    return {
        features.OUTPUT_LABEL: label,
        features.OUTPUT_LABEL_ID: label_id,
        features.OUTPUT_PROBABILITIES: probabilities,
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor(info) for name, info in signature.inputs.items()},
        "outputs": {name: _tensor(info) for name, info in signature.outputs.items()},
        "method_name": signature.method_name,
        "defaults": {},
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    sizes = info.shape or ()
    return {
        "dtype": info.dtype,
        # 64-bit numbers are strings in the JSON of protocol buffers.
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": info.shape is None,
        },
        "name": info.name,
    }
