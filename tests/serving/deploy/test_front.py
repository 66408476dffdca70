"""The front before TensorFlow Serving, run by the real nginx."""

import contextlib
import http.client
import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from deploy_tools import find_program, run
from nginx_front import FakeServing, free_port, run_fake_serving, run_nginx, write_configuration
from running_server import wait_until

from serving.errors import RequestError
from serving.protocol.json_body import read_object
from serving.protocol.model_inputs import Limits

pytestmark = pytest.mark.deploy

PREDICT = "/v1/models/ag_news:predict"
QUESTION = b'{"instances": ["Rain stops play"]}'
# Nothing here is about the number of requests.
UNLIMITED = {"rate=100r/s": "rate=10000r/s"}
COUNTED = {
    "const TEXTS = 256;": "const TEXTS = 256;\nlet looked = 0, parsed = 0;\nconst parse = JSON.parse;\n"
    "JSON.parse = (text) => {\n  parsed++;\n  return parse(text);\n};",
    "function check(r) {": "function check(r) {\n  looked = parsed = 0;",
    "containers++;": "looked++;\n      containers++;",
    "depth--;": "looked++;\n      depth--;",
    "function findFault(value, key) {": "function findFault(value, key) {\n  looked++;",
    "r.return(400, JSON.stringify({ error: message }));": "r.headersOut['X-Work'] = `${looked} ${parsed}`;\n"
    "  r.return(400, JSON.stringify({ error: message }));",
}
"""Has front.js say at how many brackets and values it looked, and how often it parsed a body."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeServing, int]]:
    with run_fake_serving() as fake, run_nginx(tmp_path_factory.mktemp("front"), fake.port, UNLIMITED) as port:
        yield fake, port


@pytest.fixture(scope="module")
def counting(running: tuple[FakeServing, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A front that counts before the same server."""
    with run_nginx(tmp_path_factory.mktemp("counting"), running[0].port, UNLIMITED | COUNTED) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def fake(running: tuple[FakeServing, int]) -> FakeServing:
    running[0].status, running[0].delay, running[0].answer = 200, 0.0, {"predictions": []}
    running[0].asked.clear()
    return running[0]


@pytest.fixture
def url(running: tuple[FakeServing, int]) -> str:
    return f"http://127.0.0.1:{running[1]}"


def is_error(reply: requests.Response, status: int, words: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    assert set(reply.json()) == {"error"}
    assert words in reply.json()["error"]
    assert "nginx/" not in reply.headers["Server"]


def test_nginx_reads_its_configuration(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, free_port(), free_port())
    log = tmp_path / "error.log"
    assert "test is successful" in run(find_program("nginx"), "-t", "-p", tmp_path, "-c", path, "-e", log)
    path.write_text(f"{path.read_text()}\nclient_max_body_sizes 1m;\n")
    with pytest.raises(AssertionError, match="unknown directive"):
        run(find_program("nginx"), "-t", "-p", tmp_path, "-c", path, "-e", log)


@pytest.mark.parametrize("action", ["predict", "classify", "regress"])
@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ("/v1/models/ag_news", "/v1/models/ag_news/labels/champion"),
        ("/v1/models/%61g_news", "/v1/models/ag_news/labels/champion"),
        ("/v1//models/./ag_news", "/v1/models/ag_news/labels/champion"),
        ("/v1/models/ag-2.b", "/v1/models/ag-2.b/labels/champion"),
        ("/v1/models/ag_news/versions/2", "/v1/models/ag_news/versions/2"),
        ("/v1/models/ag_news/labels/challenger", "/v1/models/ag_news/labels/challenger"),
    ],
)
def test_who_names_no_version_is_answered_by_the_champion(
    fake: FakeServing, url: str, asked: str, passed: str, action: str
) -> None:
    fake.answer = {"predictions": ["Sports"]}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", f"{asked}:{action}", QUESTION)
    reply = connection.getresponse()
    assert (reply.status, json.load(reply)) == (200, fake.answer)
    connection.close()
    (request,) = fake.asked
    assert (request.method, request.path, request.body) == ("POST", f"{passed}:{action}", QUESTION)
    assert request.headers["X-Request-Id"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ("/v1/models/ag_news", "/v1/models/ag_news"),
        ("/v1/models/ag_news/versions/3", "/v1/models/ag_news/versions/3"),
        ("/v1/models/ag_news/metadata", "/v1/models/ag_news/labels/champion/metadata"),
        ("/v1/models/ag_news/versions/3/metadata", "/v1/models/ag_news/versions/3/metadata"),
        ("/v1/models/ag_news:predict", "/v1/models/ag_news:predict"),
        ("/v1/models", "/v1/models"),
    ],
)
def test_the_status_is_that_of_all_versions(fake: FakeServing, url: str, asked: str, passed: str) -> None:
    assert requests.get(url + asked, timeout=10).status_code == 200
    assert [request.path for request in fake.asked] == [passed]


def test_what_tensorflow_serving_refuses_is_passed_on(fake: FakeServing, url: str) -> None:
    fake.status, fake.answer = 404, {"error": "Servable not found for request: Latest(x)"}
    is_error(requests.post(url + PREDICT, QUESTION, timeout=10), 404, "Servable not found")


def test_a_challenger_gets_its_share(tmp_path: Path) -> None:
    share = {"* champion;": "40% challenger;\n* champion;"}
    with run_fake_serving() as fake, run_nginx(tmp_path, fake.port, share) as port, requests.Session() as session:
        for _ in range(150):
            assert session.post(f"http://127.0.0.1:{port}{PREDICT}", QUESTION, timeout=10).status_code == 200
    share = sum("/labels/challenger:" in request.path for request in fake.asked) / 150
    assert 0.2 < share < 0.6


@pytest.mark.parametrize("path", ["/", "/metrics", "/monitoring/prometheus/metrics", "/ready/ag_news", "/malformed"])
def test_nothing_else_is_reachable(fake: FakeServing, url: str, path: str) -> None:
    is_error(requests.get(url + path, timeout=10), 404, "nothing at this path")
    assert fake.asked == []


def test_health_is_of_the_front_and_readiness_of_the_champion(fake: FakeServing, url: str) -> None:
    assert requests.get(f"{url}/readyz", timeout=10).json() == {"status": "ready"}
    (request,) = fake.asked
    assert (request.method, request.path) == ("POST", "/v1/models/ag_news/labels/champion:predict")
    assert json.loads(request.body) == {"instances": ["ready"]}
    fake.status = 400
    is_error(requests.get(f"{url}/readyz", timeout=10), 503, "does not answer")
    assert requests.get(f"{url}/healthz", timeout=10).json() == {"status": "ok"}


def flat(containers: int) -> bytes:
    """Returns a body of so many arrays and objects, neither many beside each other in an array nor deep."""
    return b'{"more": {%s}}' % b", ".join(b'"%d": []' % number for number in range(containers - 2))


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/ag_news/versions/1:predict", "/v1/elsewhere"])
@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"instances": ["' + b"x" * (1 << 20) + b'"]}', 413, "more than 1048576 bytes"),
        (json.dumps({"instances": ["a"] * 257}).encode(), 400, "has 257 texts, 256 are allowed"),
        (json.dumps({"inputs": {"text": ["a"] * 257}}).encode(), 400, "has 257 texts, 256 are allowed"),
        (json.dumps({"instances": ["é" * 10_001]}).encode(), 400, "has 10001 characters, 10000 are allowed"),
        (json.dumps({"instances": [{"b64": "A" * 54_701}]}).encode(), 400, "54700 are allowed"),
        (b'{"instances": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", 400, "More than 32 arrays"),
        (b"[" * 1_000_000, 400, "More than 32 arrays"),
        (b'{"a":' * 200_000, 400, "More than 32 arrays"),
        (flat(1513), 400, "JSON Parse error: More than 1512 arrays and objects"),
        (b'{"instances": ["a"], "more": [' + b",".join([b"[]"] * 349_000) + b"]}", 400, "More than 1512 arrays"),
        # What stands twice counts twice, as it does for TensorFlow Serving's parser.
        (flat(1513)[:-1] + b', "more": 1}', 400, "More than 1512 arrays"),
        (b'{"instances": [', 400, "JSON Parse error"),
        (b'{"instances": [NaN]}', 400, "JSON Parse error"),
        (b"", 400, "JSON Parse error"),
    ],
)
def test_a_body_above_a_limit_does_not_arrive(
    fake: FakeServing, counting: str, path: str, body: bytes, status: int, words: str
) -> None:
    reply = requests.post(counting + path, body, timeout=10)
    is_error(reply, status, words)
    # nginx itself refuses what is too long.
    looked, parsed = map(int, reply.headers["X-Work"].split()) if status == 400 else (0, 0)
    assert looked <= 2 * 1513
    # What is nested too much does not become a value.
    assert parsed == (status == 400 and "arrays" not in words)
    assert fake.asked == []


@pytest.mark.parametrize(
    "body",
    [
        flat(1513),
        b'{"instances": ' + b"[" * 33 + b"]" * 33 + b"}",
        b'{"instances": [' + b",".join([b'{"b64": "YQ=="}'] * 2000) + b"]}",
        b'{"a": ["\\\\", "\\"", "\\\\\\""], "b": [' + b",".join([b"{}"] * 1510) + b"]}",
        "".join(['{"é[": [', ",".join(['["é"]'] * 1600), "]}"]).encode(),
    ],
)
def test_nesting_is_refused_in_the_words_of_newsdesk_serve(fake: FakeServing, url: str, body: bytes) -> None:
    limits = Limits()
    with pytest.raises(RequestError) as refused:
        read_object(body, limits.body_bytes, limits.depth, limits.containers)
    reply = requests.post(url + PREDICT, body, timeout=10)
    assert (reply.status_code, reply.json()) == (refused.value.code.status, {"error": refused.value.message})
    assert fake.asked == []


def test_depth_does_not_hang_on_the_parsers_own_limit(tmp_path: Path) -> None:
    with run_fake_serving() as fake, run_nginx(tmp_path, fake.port, {"const DEPTH = 32;": "const DEPTH = 3;"}) as port:
        url = f"http://127.0.0.1:{port}{PREDICT}"
        assert requests.post(url, b'{"inputs": {"text": ["a"]}}', timeout=10).status_code == 200
        is_error(requests.post(url, b'{"inputs": {"text": [["a"]]}}', timeout=10), 400, "More than 3 arrays")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"instances": ["é" * 10_000]}).encode(),
        json.dumps({"instances": ["a" * 4000] * 256}).encode(),
        json.dumps({"signature_name": "serving_default", "inputs": {"text": ["a"]}}).encode(),
        json.dumps({"instances": [{"b64": "A" * 54_700}]}).encode(),
        b'{"instances": ' + b"[" * 30 + b"]" * 30 + b"}",
        flat(1512),
        json.dumps({"instances": ['"', "[{" * 2000]}).encode(),
        json.dumps({"instances": ["[{" * 2000, 'é"[', "\\", '\\"[[', "]}"] * 20}, ensure_ascii=False).encode(),
    ],
)
def test_a_body_at_a_limit_arrives_as_it_is(fake: FakeServing, url: str, body: bytes) -> None:
    assert requests.post(url + PREDICT, body, timeout=10).status_code == 200
    assert [request.body for request in fake.asked] == [body]


def test_a_body_of_unknown_length_has_the_same_limit(fake: FakeServing, url: str) -> None:
    assert requests.post(url + PREDICT, iter([QUESTION[:5], QUESTION[5:]]), timeout=10).status_code == 200
    assert [request.body for request in fake.asked] == [QUESTION]
    fake.asked.clear()
    # Refused while it is still being sent, so that the answer may be missed.
    with contextlib.suppress(requests.ConnectionError):
        is_error(requests.post(url + PREDICT, iter([b"x" * 65_536] * 32), timeout=10), 413, "more than 1048576")
    assert fake.asked == []


def test_a_packed_body_is_not_unpacked(fake: FakeServing, url: str) -> None:
    packed = {"Content-Encoding": "gzip"}
    assert requests.post(url + PREDICT, QUESTION, headers=packed, timeout=10).status_code == 200
    assert "Content-Encoding" not in fake.asked[0].headers
    is_error(requests.post(url + PREDICT, b"\x1f\x8b\x08\x00", headers=packed, timeout=10), 400, "JSON Parse error")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/models/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models/a HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET /v1/models/a HTTP/1.1\r\n\r\n",
        b"GET /v1/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ],
    ids=["line", "header", "no host", "escape", "tls"],
)
def test_what_is_not_http_is_refused_in_the_same_form(fake: FakeServing, url: str, request_bytes: bytes) -> None:
    answer = talk(url, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error": "Malformed request' in answer
    assert fake.asked == []


def talk(url: str, sent: bytes, seconds: float = 30) -> bytes:
    """Sends bytes and returns what comes until the other side ends it."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    few = {"rate=100r/s": "rate=1r/m"}
    with run_fake_serving() as fake, run_nginx(tmp_path, fake.port, few) as port, requests.Session() as session:
        url = f"http://127.0.0.1:{port}"
        replies = [session.post(url + PREDICT, QUESTION, timeout=10) for _ in range(260)]
        assert requests.get(f"{url}/healthz", timeout=10).status_code == 200
    refused = [reply for reply in replies if reply.status_code != 200]
    assert 201 <= len(fake.asked) < 240
    assert len(fake.asked) + len(refused) == 260
    for reply in refused:
        is_error(reply, 429, "try again after a second")
        assert reply.headers["Retry-After"] == "1"
        assert reply.headers["X-Request-Id"]


def test_too_many_connections_of_one_client_are_refused(fake: FakeServing, url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(QUESTION)}\r\n\r\n".encode()
    held = [socket.create_connection((host, int(port)), timeout=30) for _ in range(64)]
    replies = []

    def refused() -> bool:
        replies.append(requests.post(url + PREDICT, QUESTION, timeout=10))
        return replies[-1].status_code != 200

    try:
        for connection in held:
            connection.sendall(head)
        wait_until(refused)
        is_error(replies[-1], 429, "connections")
        held[0].sendall(QUESTION)
        assert held[0].recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in held:
            connection.close()


def patient(seconds: int) -> dict[str, str]:
    return {f"client_{part}_timeout 10s;": f"client_{part}_timeout {seconds}s;" for part in ("header", "body")}


def slow(port: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Returns 40 clients, of whom every other one has begun a body, and the rest are at the headers."""
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(40)]
    for number, client in enumerate(clients):
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n".encode()
        client.sendall(head if number % 2 else head + b"\r\n{")
    return clients


def test_others_do_not_notice_slow_clients(tmp_path: Path) -> None:
    with (
        run_fake_serving() as fake,
        run_nginx(tmp_path, fake.port, patient(600)) as port,
        contextlib.ExitStack() as stack,
    ):
        clients = slow(port, stack)
        for _ in range(20):
            assert requests.post(f"http://127.0.0.1:{port}{PREDICT}", QUESTION, timeout=10).status_code == 200
        assert not any(select.select(clients, [], [], 0))
    assert len(fake.asked) == 20


def test_slow_clients_are_cut(tmp_path: Path) -> None:
    with (
        run_fake_serving() as fake,
        run_nginx(tmp_path, fake.port, patient(1)) as port,
        contextlib.ExitStack() as stack,
    ):
        clients = slow(port, stack)
        dripping, asked = clients[1::2], 0

        def all_cut() -> bool:
            nonlocal asked
            assert requests.post(f"http://127.0.0.1:{port}{PREDICT}", QUESTION, timeout=10).status_code == 200
            asked += 1
            for client in list(dripping):
                try:
                    # Another header does not begin the time anew; it would take 300 seconds of them to be too many.
                    client.sendall(b"X-More: a\r\n")
                except OSError:
                    dripping.remove(client)
            time.sleep(0.1)
            return not dripping

        wait_until(all_cut, 60)
        assert {first_line(client) for client in clients[::2]} <= {b"", b"HTTP/1.1 408 Request Time-out"}
    assert len(fake.asked) == asked


def first_line(client: socket.socket) -> bytes:
    try:
        return client.recv(65_536).partition(b"\r\n")[0]
    except ConnectionResetError:
        return b""


def test_a_serving_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    with run_nginx(tmp_path, free_port()) as port:
        reply = requests.post(f"http://127.0.0.1:{port}{PREDICT}", QUESTION, timeout=10)
        is_error(reply, 503, "does not answer")
        assert reply.headers["Retry-After"] == "1"
        is_error(requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10), 503, "does not answer")


def test_a_serving_that_is_late_is_not_waited_for(tmp_path: Path) -> None:
    short = {"proxy_read_timeout 12s;": "proxy_read_timeout 1s;"}
    with run_fake_serving() as fake, run_nginx(tmp_path, fake.port, short) as port:
        fake.delay = 20
        is_error(requests.post(f"http://127.0.0.1:{port}{PREDICT}", QUESTION, timeout=10), 504, "Timed out")


def test_the_log_has_one_object_per_request_and_no_text(tmp_path: Path) -> None:
    with run_fake_serving() as fake, run_nginx(tmp_path, fake.port) as port:
        url = f"http://127.0.0.1:{port}"
        reply = requests.post(f"{url}{PREDICT}?secret=1", QUESTION, timeout=10)
        requests.get(f'{url}/"quoted"\\', timeout=10)
        requests.get(f"{url}/healthz", timeout=10)
    text = (tmp_path / "access.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["method"], line["status"]) for line in lines] == [("POST", "200"), ("GET", "404")]
    assert lines[0]["request_id"] == reply.headers["X-Request-Id"]
    assert lines[0]["path"] == "/v1/models/ag_news/labels/champion:predict"
    assert "Rain" not in text
    assert "secret" not in text
