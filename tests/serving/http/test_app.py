"""What the server answers, over sockets and without a model."""

import asyncio
import json
import re
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from fake_models import FakeModel, FakeRepository
from openapi_description import validator
from running_server import Running, read_answer, request, running_server, wait_until

from serving.config import make_config
from serving.http.access_log import AccessLog
from serving.http.app import App

PREDICT = "/v1/models/ag_news:predict"


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server() as running:
        yield running


def test_rows_and_columns_are_answered(server: Running) -> None:
    answer = server.predict("abc", "")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    first, second = answer.json["predictions"]
    assert first == {"label": "Sci/Tech", "label_id": 3, "probabilities": [0.125, 0.125, 0.125, 0.625]}
    assert second["label"] == "World"
    columns = server.ask("POST", PREDICT, b'{"inputs": ["abc"]}').json["outputs"]
    assert columns == {"label": ["Sci/Tech"], "label_id": [3], "probabilities": [[0.125, 0.125, 0.125, 0.625]]}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/ag_news/versions/1:predict",
        "/v1/models/ag_news/labels/champion:predict",
        "/V1/Models/ag_news:predict",
    ],
)
def test_every_address_of_a_version_is_answered(server: Running, path: str) -> None:
    assert server.predict("abc", path=path).status == 200


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/sport:predict", 404, "Servable not found"),
        ("/v1/models/ag_news/versions/9:predict", 404, "Servable not found"),
        ("/v1/models/ag_news/labels/nobody:predict", 400, "Unrecognized servable version label"),
        ("/v1/models/ag_news/versions/18446744073709551616:predict", 400, "Failed to convert version"),
        ("/v1/models/ag_news:guess", 400, "Malformed request: POST /v1/models/ag_news:guess"),
        ("/v1/models/ag_news:classify", 400, "examples"),
        ("/v1/models/..%2f..%2fetc:predict", 404, "Servable not found"),
        ("/v1/models/ag_news:predict?x=1", 400, "Malformed request"),
    ],
)
def test_an_address_of_nothing_is_refused(server: Running, path: str, status: int, words: str) -> None:
    answer = server.predict("abc", path=path)
    assert answer.status == status
    assert words in answer.json["error"]


@pytest.mark.parametrize("step", ["parse_target", "parse_predict", "render_predictions", "parse_infer", "render_infer"])
def test_a_fault_of_our_own_is_logged_and_answered_and_holds_no_version(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    def fail(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError("our own")

    v2 = "infer" in step
    infer = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["abc"]}]}
    path, body = ("/v2/models/ag_news/infer", infer) if v2 else (PREDICT, {"instances": ["abc"]})
    with monkeypatch.context() as patched:
        patched.setattr(f"serving.http.predictor.{step}", fail)
        answer = server.ask("POST", path, json.dumps(body).encode(), x_request_id="odd-one")
        assert (answer.status, answer.json) == (500, {"error": "the server failed: its log says how"})
    assert "request odd-one failed" in caplog.text
    assert "ZeroDivisionError: our own" in caplog.text
    assert server.repository.in_use == 0
    assert server.ask("POST", path, json.dumps(body).encode()).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"instances": []}',
        b'{"instances": ["a"], "inputs": ["a"]}',
        b'{"instances": [NaN]}',
        b"\xff",
    ],
)
def test_a_bad_body_is_refused_in_json(server: Running, body: bytes) -> None:
    answer = server.ask("POST", PREDICT, body)
    assert answer.status == 400
    assert list(answer.json) == ["error"]


def test_wrong_methods_below_v1_are_malformed_and_elsewhere_not_allowed(server: Running) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = server.ask(method, PREDICT)
        assert (answer.status, "Malformed request" in answer.json["error"]) == (400, True)
    answer = server.ask("POST", "/healthz", b"")
    assert (answer.status, sorted(answer.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])
    assert server.ask("DELETE", "/explain").headers["allow"] == "GET, HEAD, POST"
    answer = server.ask("GET", "/nothing")
    assert (answer.status, list(answer.json)) == (404, ["error"])
    assert server.ask("GET", "/healthz/").status == 404


def test_status_and_metadata_are_told(server: Running) -> None:
    status = server.ask("GET", "/v1/models/ag_news").json["model_version_status"]
    assert [(each["version"], each["state"]) for each in status] == [("1", "AVAILABLE")]
    metadata = server.ask("GET", "/v1/models/ag_news/metadata").json
    assert metadata["model_spec"] == {"name": "ag_news", "signature_name": "", "version": "1"}
    assert "serving_default" in metadata["metadata"]["signature_def"]["signature_def"]


def test_kserve_is_answered_beside_it(server: Running) -> None:
    body = {"id": "7", "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["abc", "a"]}]}
    answer = server.ask("POST", "/v2/models/ag_news/infer", json.dumps(body).encode(), x_request_id="mine")
    assert answer.status == 200
    assert answer.headers["x-request-id"] == "mine"
    assert (answer.json["model_version"], answer.json["id"]) == ("1", "7")
    assert answer.json["outputs"][0]["data"] == ["Sci/Tech", "Sports"]
    assert server.ask("POST", "/v2/models/ag_news/versions/1/infer", json.dumps(body).encode()).status == 200
    assert server.ask("POST", "/v2/models/sport/infer", json.dumps(body).encode()).status == 404
    assert server.ask("POST", "/v2/models/ag_news/versions/x/infer", json.dumps(body).encode()).status == 400
    assert server.ask("POST", "/v2/models/ag_news/infer", b"{}").status == 400
    assert server.ask("GET", "/v2/models/ag_news").json["versions"] == ["1"]
    assert server.ask("GET", "/v2/models/ag_news/versions/1").status == 200
    for path, schema, reply in (
        ("/v2/models/ag_news/ready", "V2ModelReady", {"name": "ag_news", "ready": True}),
        ("/v2/health/live", "V2Live", {"live": True}),
        ("/v2/health/ready", "V2Ready", {"ready": True}),
        ("/v2", "V2Server", {"name": "newsdesk", "version": version("newsdesk"), "extensions": []}),
    ):
        answer = server.ask("GET", path)
        assert (answer.status, answer.json) == (200, reply)
        validator(schema).validate(reply)


def test_the_description_and_the_pages_are_served(server: Running) -> None:
    assert server.ask("GET", "/openapi.json").json["openapi"].startswith("3.1")
    for path in ("/docs", "/"):
        answer = server.ask("GET", path)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "access-control-allow-origin" not in answer.headers
    assert server.ask("HEAD", "/healthz").body == b""


def test_readiness_follows_the_models_and_health_does_not() -> None:
    repository = FakeRepository({1: FakeModel()})
    with running_server(repository) as server:
        assert server.ask("GET", "/readyz").status == 200
        repository.ready = False
        assert server.ask("GET", "/readyz").status == 503
        refused = server.ask("GET", "/v2/health/ready")
        assert (refused.status, refused.json) == (503, {"ready": False})
        validator("V2NotReady").validate(refused.json)
        assert server.ask("GET", "/healthz").status == 200


def test_requests_of_one_connection_are_answered_in_turn(server: Running) -> None:
    bodies = [json.dumps({"instances": ["x" * n]}).encode() for n in range(40)]
    sent = b"".join(request("POST", PREDICT, body) + request("GET", "/healthz") for body in bodies)
    with server.connect() as client:
        client.sendall(sent)
        buffer = bytearray()
        for n in range(40):
            assert read_answer(client, buffer).json["predictions"][0]["label_id"] == n % 4
            assert read_answer(client, buffer).body == b"ok\n"


def test_a_thousand_requests_in_one_packet_are_answered(server: Running) -> None:
    with server.connect() as client:
        client.sendall(request("POST", "/v1/models/sport:predict", b'{"instances":["a"]}') * 1000)
        buffer = bytearray()
        assert [read_answer(client, buffer).status for _ in range(1000)] == [404] * 1000


def test_a_thousand_requests_behind_one_that_waits_are_answered() -> None:
    model = FakeModel()
    with running_server(FakeRepository({1: model})) as server, server.connect() as client:
        model.gate.clear()
        refused = request("POST", "/v1/models/sport:predict", b'{"instances":["a"]}')
        client.sendall(request("POST", PREDICT, b'{"instances":["a"]}') + refused * 999)
        wait_until(model.asked.is_set)
        model.gate.set()
        buffer = bytearray()
        assert [read_answer(client, buffer).status for _ in range(1000)] == [200] + [404] * 999


def test_a_body_may_come_in_pieces_and_chunks(server: Running) -> None:
    with server.connect() as client:
        whole = request("POST", PREDICT, b'{"instances": ["abc"]}')
        for start in range(0, len(whole), 7):
            client.sendall(whole[start : start + 7])
        assert read_answer(client).json["predictions"][0]["label_id"] == 3
        client.sendall(request("POST", PREDICT, transfer_encoding="chunked"))
        for chunk in (b'{"instances"', b': ["ab', b'c"]}'):
            client.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        client.sendall(b"0\r\n\r\n")
        assert read_answer(client).json["predictions"][0]["label_id"] == 3


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(server: Running) -> None:
    body = b'{"instances": ["abc"]}'
    with server.connect() as client:
        client.sendall(request("POST", PREDICT, expect="100-continue", content_length=str(len(body))))
        assert read_answer(client).status == 100
        client.sendall(body)
        assert read_answer(client).status == 200


def test_a_reply_names_the_columns_of_its_probabilities(server: Running) -> None:
    named = json.loads(server.predict("a").headers["newsdesk-classes"])
    answer = server.predict("a").json["predictions"][0]
    assert named[answer["label_id"]] == answer["label"]
    assert len(named) == len(answer["probabilities"])
    assert "newsdesk-classes" not in server.ask("GET", "/v1/models/ag_news").headers


def test_request_ids_are_repeated_or_made(server: Running) -> None:
    assert server.predict("a", x_request_id="abc-1.2:3_4").headers["x-request-id"] == "abc-1.2:3_4"
    made = {server.predict("a").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for wrong in ("a b", "x" * 65, 'a"b', "é"):
        assert server.predict("a", x_request_id=wrong).headers["x-request-id"] != wrong
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", server.ask("GET", "/healthz").headers["x-request-id"])


def test_the_model_is_let_go_of_however_a_request_ends() -> None:
    model = FakeModel()
    repository = FakeRepository({1: model})
    with running_server(repository, request_seconds=0.2) as server, server.connect() as client:
        for body in (b'{"instances": ["a"]}', b'{"instances": ["bad"]}', b'{"instances": ["broken"]}', b"{"):
            client.sendall(request("POST", PREDICT, body))
            read_answer(client)
            # The connection, and with it the request, is still there.
            assert repository.in_use == 0
        model.gate.clear()
        client.sendall(request("POST", PREDICT, b'{"instances": ["late"]}'))
        assert read_answer(client).status == 504
        assert repository.in_use == 0
        model.gate.set()


def test_a_client_that_goes_leaves_nothing_to_do() -> None:
    model = FakeModel()
    repository = FakeRepository({1: model})
    with running_server(repository, request_seconds=60) as server:
        model.gate.clear()
        first, gone = server.connect(), server.connect()
        first.sendall(request("POST", PREDICT, b'{"instances": ["first"]}'))
        wait_until(model.asked.is_set)
        gone.sendall(request("POST", PREDICT, b'{"instances": ["gone"]}'))
        wait_until(lambda: repository.in_use == 2)
        gone.close()
        wait_until(lambda: repository.in_use == 1)
        model.gate.set()
        assert read_answer(first).status == 200
        first.close()
        assert server.predict("next").status == 200
        assert model.batches == [[b"first"], [b"next"]]


def test_what_fails_inside_says_no_more_than_that() -> None:
    with running_server() as server:
        answer = server.predict("broken")
        assert answer.status == 500
        assert "secret" not in answer.json["error"]
        assert server.predict("a").status == 200


class TestCanary:
    """A share of those who name no version meets the challenger."""

    def count(self, share: float, labels: dict[str, int], requests: int = 300) -> int:
        models = {1: FakeModel(), 2: FakeModel(shift=1)}
        with running_server(FakeRepository(models, labels), canary_share=share) as server, server.connect() as client:
            buffer = bytearray()
            found = 0
            for number in range(requests):
                client.sendall(request("POST", PREDICT, b'{"instances": ["abcd"]}', x_request_id=f"r{number}"))
                found += read_answer(client, buffer).json["predictions"][0]["label_id"]
            text = server.ask("GET", "/metrics").body.decode()
            counted = re.search(
                r'newsdesk_requests_total\{code="200",label="challenger",model="ag_news",version="2"\} (\d+)', text
            )
            assert (int(counted[1]) if counted else 0) == found
            for path in ("/v1/models/ag_news/versions/1:predict", "/v1/models/ag_news/labels/champion:predict"):
                for number in range(20):
                    answer = server.predict("abcd", path=path, x_request_id=f"r{number}")
                    assert answer.json["predictions"][0]["label_id"] == 0
            # Nor is it counted as the challenger's.
            assert 'label="challenger",model="ag_news",version="1"' not in server.ask("GET", "/metrics").body.decode()
            return found

    def test_its_share_of_requests(self) -> None:
        assert 40 < self.count(0.25, {"champion": 1, "challenger": 2}) < 110

    def test_all_and_none(self) -> None:
        assert self.count(1.0, {"champion": 1, "challenger": 2}, 30) == 30
        assert self.count(0.0, {"champion": 1, "challenger": 2}, 30) == 0

    def test_nobody_where_there_is_none(self) -> None:
        assert self.count(1.0, {"champion": 1}, 30) == 0

    def test_the_same_request_meets_the_same_version(self) -> None:
        labels = {"champion": 1, "challenger": 2}
        repository = FakeRepository({1: FakeModel(), 2: FakeModel(shift=1)}, labels)
        with running_server(repository, canary_share=0.5) as server:
            for number in range(10):
                answers = {server.predict("abcd", x_request_id=f"r{number}").body for _ in range(3)}
                assert len(answers) == 1


class TestLog:
    """One line of JSON per request, without its text."""

    def read(self, path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def test_says_who_asked_what_and_how_it_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Every request takes a quarter of a second.
        for module, now in (("exchange", 10.0), ("predictor", 10.25), ("app", 10.25)):
            clock = SimpleNamespace(monotonic=lambda now=now: now, time=time.time)
            monkeypatch.setattr(f"serving.http.{module}.time", clock)
        log = AccessLog(str(tmp_path / "logs" / "access.jsonl"))
        with running_server(log=log) as server:
            server.predict("a private headline", "and another", x_request_id="one")
            server.ask("POST", "/v1/models/sport:predict", b'{"instances":["private"]}', x_request_id="two")
            server.ask("GET", "/v1/models/ag_news", x_request_id="three")
            server.ask("GET", "/healthz")
            server.ask("GET", "/nothing?private", x_request_id="four")
        log.close()
        lines = self.read(tmp_path / "logs" / "access.jsonl")
        assert "private" not in json.dumps(lines)
        one, two, three, four = lines
        assert {key: one[key] for key in ("request_id", "model", "version", "label", "status", "rows")} == {
            "request_id": "one",
            "model": "ag_news",
            "version": "1",
            "label": "champion",
            "status": 200,
            "rows": 2,
        }
        assert [line["ms"] for line in lines] == [250.0] * 4
        assert (two["status"], two["code"], two["path"]) == (404, "NOT_FOUND", "/v1/models/sport:predict")
        assert (three["request_id"], three["method"], three["status"]) == ("three", "GET", 200)
        assert (four["path"], four["status"]) == ("/nothing", 404)

    def test_a_large_file_is_put_aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("serving.http.access_log.MOST_FILE_BYTES", 10)
        path = tmp_path / "access.jsonl"
        log = AccessLog(str(path))
        for number in range(3):
            log.add({"number": number})
            log.flush()
            wait_until(lambda number=number: f'"number":{number}' in path.read_text())  # type: ignore[misc]
        log.close()
        assert self.read(path) == [{"number": 2}]
        assert self.read(tmp_path / "access.jsonl.1") == [{"number": 1}]


def test_the_application_runs_under_any_asgi_server() -> None:
    app = App(FakeRepository({1: FakeModel()}), make_config({"model_dir": "nowhere", "body_bytes": 100}))  # type: ignore[arg-type]

    async def ask(*blocks: bytes, length: int | None = None) -> tuple[int, Any]:
        sent: list[Any] = []
        waiting = [{"type": "http.request", "body": block, "more_body": True} for block in blocks]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        headers = [] if length is None else [(b"content-length", str(length).encode())]

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": PREDICT, "raw_path": PREDICT.encode(), "headers": headers}
        await app({**scope, "query_string": b""}, receive, send)
        return sent[0]["status"], orjson.loads(sent[1]["body"])

    async def test() -> None:
        app.batcher.start()
        status, body = await ask(b'{"instances":', b' ["abc"]}')
        assert (status, body["predictions"][0]["label_id"]) == (200, 3)
        assert (await ask(b"x" * 60, b"x" * 60))[0] == 413
        assert (await ask(b"", length=101))[0] == 413
        app.batcher.stop()

    asyncio.run(test())
