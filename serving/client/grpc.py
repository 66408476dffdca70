"""Asks a server over TensorFlow Serving's gRPC API; needs what ``newsdesk[grpc]`` brings.

with GrpcClient("127.0.0.1:8500") as client:
    client.predict(["Central bank raises rates"])[0].label
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from components import features
from components.errors import BadInputError, check_address
from serving.client.rest import REQUEST_ROWS
from serving.client.retry import PassingError, Retry
from serving.errors import CODES, Code, RequestError
from serving.model.class_names import make_predictions
from serving.model.loaded import Prediction
from serving.model.signatures import Signature, describe_signatures
from serving.repository.states import State, VersionStatus

_APIS = (
    "get_model_metadata_pb2",
    "get_model_status_pb2",
    "model_pb2",
    "model_service_pb2_grpc",
    "predict_pb2",
    "prediction_service_pb2_grpc",
)
# DEADLINE_EXCEEDED is not tried again: gRPC does not tell whether the client's or the server's deadline passed.
_PASSING = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)


class GrpcClient:
    """A server of models. Threads may share it; close it, or use it in a ``with`` statement."""

    def __init__(
        self,
        target: str,
        token: str | None = None,
        timeout: float = 10.0,
        retries: int = 4,
        classes: Sequence[str] | None = None,
        credentials: Any = None,
        retry: Retry | None = None,
    ):
        """Connects to nothing yet.

        Args:
            target: Host and port, such as ``127.0.0.1:8500``.
            token: Bearer token, for a proxy that asks for one; it stands in no message and no ``repr``.
            timeout: Seconds for an answer to one request.
            retries: How often a request is repeated that finds no connection or a full queue.
            classes: Names in label-id order; without them see ``serving.client.rest.Client.predict``.
            credentials: ``grpc.ssl_channel_credentials(...)``; without them the connection is not encrypted.
            retry: All that ``retries`` says and more.

        Raises:
            BadInputError: ``tensorflow-serving-api`` is not installed, or the token cannot be sent.
        """
        check_address("the address of a server", target, "give a token")
        self.target = target
        self._grpc, self._apis = _import_apis()
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise BadInputError("the token is empty or has characters that a header cannot carry: check how it was set")
        self._timeout = timeout
        self._classes = classes
        self._retry = retry or Retry(retries)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if credentials is None:
            self._channel = self._grpc.insecure_channel(target)
        else:
            self._channel = self._grpc.secure_channel(target, credentials)
        self._prediction_service = self._apis["prediction_service_pb2_grpc"].PredictionServiceStub(self._channel)
        self._model_service = self._apis["model_service_pb2_grpc"].ModelServiceStub(self._channel)

    def __enter__(self) -> "GrpcClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"GrpcClient({self.target!r})"

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def predict(
        self, texts: Sequence[str], model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> list[Prediction]:
        """Classifies texts, 256 in a request; arguments, result and errors are those of ``Client.predict``."""
        import tensorflow as tf

        if isinstance(texts, str):
            raise TypeError("predict takes a list of texts, not one text")
        found: list[Prediction] = []
        for start in range(0, len(texts), REQUEST_ROWS):
            part = texts[start : start + REQUEST_ROWS]
            request = self._apis["predict_pb2"].PredictRequest(model_spec=self._spec(model, version, label))
            request.model_spec.signature_name = features.SERVING_SIGNATURE
            request.inputs[features.TEXT].CopyFrom(
                tf.make_tensor_proto(_encode(part, start), dtype=tf.string, shape=[len(part)])
            )
            reply = self._ask(self._prediction_service.Predict, request)
            found += make_predictions(part, *_columns(reply), self._classes)
        return found

    def status(
        self, model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """Returns the state of a model's versions, as the server orders them. Errors are those of ``predict``."""
        pb2 = self._apis["get_model_status_pb2"]
        request = pb2.GetModelStatusRequest(model_spec=self._spec(model, version, label))
        reply = self._ask(self._model_service.GetModelStatus, request)
        return [
            VersionStatus(
                item.version,
                State[pb2.ModelVersionStatus.State.Name(item.state)],
                CODES.get(item.status.error_code, Code.UNKNOWN),
                item.status.error_message,
            )
            for item in reply.model_version_status
        ]

    def metadata(
        self, model: str = "ag_news", version: int | None = None, label: str | None = None
    ) -> Mapping[str, Signature]:
        """Returns a version's signatures by name. Errors are those of ``predict``."""
        pb2 = self._apis["get_model_metadata_pb2"]
        request = pb2.GetModelMetadataRequest(
            model_spec=self._spec(model, version, label), metadata_field=["signature_def"]
        )
        reply = self._ask(self._prediction_service.GetModelMetadata, request)
        signatures = pb2.SignatureDefMap()
        reply.metadata["signature_def"].Unpack(signatures)
        return describe_signatures(signatures.signature_def)

    def _spec(self, model: str, version: int | None, label: str | None) -> Any:
        if version is not None and label is not None:
            raise ValueError(f"version {version} and label {label!r} were both given: ask for one of them")
        spec = self._apis["model_pb2"].ModelSpec(name=model)
        if version is not None:
            spec.version.value = version
        if label is not None:
            spec.version_label = label
        return spec

    def _ask(self, call: Callable[..., Any], request: Any) -> Any:
        return self._retry.call(lambda: self._attempt(call, request))

    def _attempt(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return call(request, timeout=self._timeout, metadata=self._metadata)
        except self._grpc.RpcError as error:
            code = Code.__members__.get(error.code().name, Code.UNKNOWN)
            kind = PassingError if code in _PASSING else RequestError
            raise kind(code, f"{self.target}: {error.details()}") from error


def _import_apis() -> tuple[ModuleType, dict[str, ModuleType]]:
    try:
        import grpc

        return grpc, {name: import_module(f"tensorflow_serving.apis.{name}") for name in _APIS}
    except ImportError as error:
        raise BadInputError(
            f"gRPC needs tensorflow-serving-api, which is not here ({error}): pip install newsdesk[grpc]"
        ) from error


def _encode(texts: Sequence[str], start: int) -> list[bytes]:
    encoded = []
    for number, text in enumerate(texts, start + 1):
        try:
            encoded.append(text.encode())
        except UnicodeEncodeError as error:
            message = f"text {number} is no text that UTF-8 can carry: replace its lone surrogates"
            raise RequestError(Code.INVALID_ARGUMENT, message) from error
    return encoded


def _columns(reply: Any) -> tuple[list[str], list[int], list[list[float]]]:
    import tensorflow as tf

    names = features.OUTPUTS
    if not set(names) <= set(reply.outputs):
        raise RequestError(
            Code.INTERNAL, f"the server's reply has {sorted(reply.outputs)}, not {sorted(names)}: ask another model"
        )
    labels, label_ids, shares = (tf.make_ndarray(reply.outputs[name]).tolist() for name in names)
    return [label.decode() for label in labels], label_ids, shares
