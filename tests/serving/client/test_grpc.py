"""The gRPC client against a small server in this process that speaks TensorFlow Serving's API."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from components.errors import BadInputError
from serving.client.grpc import GrpcClient
from serving.client.retry import Retry
from serving.errors import Code, RequestError
from serving.model.loaded import Prediction
from serving.model.signatures import Signature, TensorInfo
from serving.repository.states import State, VersionStatus

CLASSES = ["World", "Sports", "Business"]
TOKEN = "sesame-1234"


class Desk(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """Refuses as it is told, and then answers as a model whose class is a text's length modulo three."""

    def __init__(self) -> None:
        self.refusals: list[grpc.StatusCode] = []
        self.awake = threading.Event()
        self.awake.set()
        self.asked: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.as_content = False
        self.outputs = ["label", "label_id", "probabilities"]

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        texts = tf.make_ndarray(request.inputs["text"]).tolist()
        label_ids = [len(text) % 3 for text in texts]
        tensors = {
            "label": tf.make_tensor_proto([CLASSES[number] for number in label_ids], tf.string),
            "label_id": tf.make_tensor_proto(label_ids, tf.int64),
            "probabilities": tf.make_tensor_proto(
                [[0.8 if number == column else 0.1 for column in range(3)] for number in label_ids], tf.float32
            ),
        }
        if not self.as_content:
            # TensorFlow Serving writes numbers one by one unless it is told otherwise.
            for name, field in (("label_id", "int64_val"), ("probabilities", "float_val")):
                values = tf.make_ndarray(tensors[name]).ravel().tolist()
                tensors[name].ClearField("tensor_content")
                tensors[name].ClearField(field)
                getattr(tensors[name], field).extend(values)
        reply = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name in self.outputs:
            reply.outputs[name].CopyFrom(tensors[name])
        return reply

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        reply = get_model_status_pb2.GetModelStatusResponse()
        reply.model_version_status.add(version=3, state=50).status.error_code = 13
        reply.model_version_status[0].status.error_message = "variables are not whole"
        reply.model_version_status.add(version=2, state=30)
        return reply

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._note(request, context)
        found = get_model_metadata_pb2.SignatureDefMap()
        signature = found.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        signature.inputs["text"].name = "text:0"
        signature.inputs["text"].dtype = tf.string.as_datatype_enum
        signature.inputs["text"].tensor_shape.dim.add(size=-1)
        signature.outputs["x"].name = "x:0"
        signature.outputs["x"].dtype = tf.float32.as_datatype_enum
        signature.outputs["x"].tensor_shape.unknown_rank = True
        reply = get_model_metadata_pb2.GetModelMetadataResponse()
        reply.metadata["signature_def"].Pack(found)
        return reply

    def _note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        self.awake.wait(30)
        if self.refusals:
            context.abort(self.refusals.pop(0), "Servable not found")


def expected(text: str, names: list[str] = CLASSES) -> Prediction:
    label_id = len(text.encode()) % 3
    row = tf.constant([0.8 if column == label_id else 0.1 for column in range(3)], tf.float32).numpy().tolist()
    return Prediction(text, CLASSES[label_id], label_id, row[label_id], dict(zip(names, row, strict=True)))


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def target(desk: Desk) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(desk, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(desk, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def connect(target: str, waits: list[float]) -> Iterator[Callable[..., GrpcClient]]:
    clients = []

    def make(**settings: Any) -> GrpcClient:
        retry = Retry(3, sleep=waits.append, draw=lambda _, bound: bound)
        clients.append(GrpcClient(**{"target": target, "classes": CLASSES, "retry": retry, **settings}))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("as_content", [True, False])
def test_predictions_are_what_the_model_said(connect: Callable[..., GrpcClient], desk: Desk, as_content: bool) -> None:
    desk.as_content = as_content
    texts = ["ab", "", "Zürich 球"]
    assert connect().predict(texts) == [expected(text) for text in texts]
    (request,) = desk.asked
    assert (request.model_spec.name, request.model_spec.signature_name) == ("ag_news", "serving_default")
    assert request.model_spec.WhichOneof("version_choice") is None
    assert request.inputs["text"].string_val == [text.encode() for text in texts]


def test_one_text_of_a_reply_that_repeats_it(connect: Callable[..., GrpcClient]) -> None:
    assert connect().predict(["aa"] * 3) == [expected("aa")] * 3


def test_many_texts_go_in_several_requests(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    texts = ["x" * (number % 7) for number in range(300)]
    assert connect().predict(texts) == [expected(text) for text in texts]
    assert [len(asked.inputs["text"].string_val) for asked in desk.asked] == [256, 44]
    assert connect().predict([]) == []
    with pytest.raises(TypeError, match="a list"):
        connect().predict("ab")


def test_version_and_label_choose(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    client = connect()
    client.predict(["a"], "other", version=7)
    client.predict(["a"], label="champion")
    assert (desk.asked[0].model_spec.name, desk.asked[0].model_spec.version.value) == ("other", 7)
    assert desk.asked[1].model_spec.version_label == "champion"
    with pytest.raises(ValueError, match="one of them"):
        client.predict(["a"], version=1, label="champion")


def test_without_names_a_class_goes_by_its_number(connect: Callable[..., GrpcClient]) -> None:
    assert connect(classes=None).predict(["ab"]) == [expected("ab", ["0", "1", "Business"])]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_what_may_pass_is_tried_again(
    connect: Callable[..., GrpcClient], desk: Desk, waits: list[float], code: grpc.StatusCode
) -> None:
    desk.refusals = [code] * 3
    assert connect().predict(["ab"]) == [expected("ab")]
    assert waits == [0.1, 0.2, 0.4]
    desk.refusals = [code] * 4
    with pytest.raises(RequestError) as raised:
        connect().predict(["ab"])
    assert raised.value.code.name == code.name
    assert desk.refusals == []


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DEADLINE_EXCEEDED]
)
def test_what_will_not_pass_is_not_tried_again(
    connect: Callable[..., GrpcClient], desk: Desk, target: str, waits: list[float], code: grpc.StatusCode
) -> None:
    desk.refusals = [code]
    with pytest.raises(RequestError, match=f"{target}: Servable not found") as raised:
        connect(token=TOKEN).predict(["ab"])
    assert raised.value.code.name == code.name
    assert TOKEN not in repr(raised.value)
    assert (len(desk.asked), waits) == (1, [])


def test_a_server_that_is_not_there_is_unavailable(connect: Callable[..., GrpcClient], waits: list[float]) -> None:
    with pytest.raises(RequestError, match=r"127\.0\.0\.1:1: ") as raised:
        connect(target="127.0.0.1:1").predict(["ab"])
    assert raised.value.code is Code.UNAVAILABLE
    assert len(waits) == 3


def test_a_server_that_does_not_answer_in_time_is_not_waited_for(
    connect: Callable[..., GrpcClient], desk: Desk, waits: list[float]
) -> None:
    desk.awake.clear()
    with pytest.raises(RequestError) as refused:
        connect(timeout=0.2).predict(["ab"])
    desk.awake.set()
    assert refused.value.code is Code.DEADLINE_EXCEEDED
    assert waits == []


def test_the_token_is_sent_and_shown_nowhere(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    client = connect(token=TOKEN)
    client.predict(["ab"])
    connect().predict(["ab"])
    assert [headers.get("authorization") for headers in desk.headers] == [f"Bearer {TOKEN}", None]
    assert TOKEN not in repr(client)
    with pytest.raises(BadInputError, match="token"):
        connect(token="line\nbreak")


def test_a_reply_of_another_model_is_an_error(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    desk.outputs = ["label", "label_id"]
    with pytest.raises(RequestError, match=r"\['label', 'label_id'\]") as raised:
        connect().predict(["ab"])
    assert raised.value.code is Code.INTERNAL
    desk.outputs = ["label", "label_id", "probabilities"]
    with pytest.raises(RequestError, match="'Business'"):
        connect(classes=["a", "b", "c"]).predict(["ab"])


def test_a_text_that_utf8_cannot_carry_is_refused_by_its_number(connect: Callable[..., GrpcClient]) -> None:
    with pytest.raises(RequestError, match="text 258 "):
        connect().predict(["fine"] * 257 + ["\ud800"])


def test_status_is_typed(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    assert connect().status(version=2) == [
        VersionStatus(3, State.END, Code.INTERNAL, "variables are not whole"),
        VersionStatus(2, State.AVAILABLE, Code.OK, ""),
    ]
    assert desk.asked[0].model_spec.version.value == 2


def test_metadata_is_typed(connect: Callable[..., GrpcClient], desk: Desk) -> None:
    assert connect().metadata() == {
        "serving_default": Signature(
            {"text": TensorInfo("text:0", "DT_STRING", (-1,))},
            {"x": TensorInfo("x:0", "DT_FLOAT", None)},
            "tensorflow/serving/predict",
        )
    }
    assert list(desk.asked[0].metadata_field) == ["signature_def"]


def test_the_extra_brings_it(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[3], check=True, capture_output=True, timeout=60)
    required = (tmp_path / "newsdesk.egg-info" / "requires.txt").read_text(encoding="utf-8")
    for stack in ('== "3.11"', '>= "3.12"'):
        assert f"[grpc:python_version {stack}]\ntensorflow-serving-api" in required


@pytest.mark.parametrize("absent", ["grpc", "tensorflow_serving.apis.predict_pb2"])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(BadInputError, match=rf"{re.escape(absent)}.*: pip install newsdesk\[grpc\]"):
        GrpcClient("127.0.0.1:8500")
