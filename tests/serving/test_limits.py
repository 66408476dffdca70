"""How much, how long and who: every limit is met on purpose, and a client that keeps to them is served meanwhile."""

import asyncio
import gc
import json
import signal
import socket
import time
from typing import Any

import psutil
import pytest
from fake_models import FakeModel, FakeRepository
from running_server import Running, is_closed, read_answer, request, running_server, wait_until

from serving.errors import Code, RequestError
from serving.limits import read_body

PREDICT = "/v1/models/ag_news:predict"
GOOD = b'{"instances": ["abc"]}'


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server() as running:
        yield running


def rejected(server: Running, reason: str) -> int:
    return server.app.metrics.rejected[reason]


class TestSize:
    """Faults 19 of the table: refused at once, for little memory."""

    def test_a_declared_length_is_refused_before_the_body(self, server: Running) -> None:
        with server.connect() as client:
            client.sendall(request("POST", PREDICT, content_length="1048577"))
            answer = read_answer(client)
            assert (answer.status, "1048576" in answer.json["error"]) == (413, True)

    @pytest.mark.parametrize("path", [PREDICT, "/v2/models/ag_news/infer"])
    @pytest.mark.parametrize("chunked", [False, True])
    def test_a_long_body_is_refused_and_the_connection_lives(self, server: Running, path: str, chunked: bool) -> None:
        body = b"x" * (2 << 20)
        with server.connect() as client:
            begun = time.monotonic()
            if chunked:
                client.sendall(request("POST", path, transfer_encoding="chunked"))
                for start in range(0, len(body), 1 << 16):
                    client.sendall(b"10000\r\n" + body[start : start + (1 << 16)] + b"\r\n")
                client.sendall(b"0\r\n\r\n")
            else:
                client.sendall(request("POST", path, body))
            assert read_answer(client).status == 413
            assert time.monotonic() - begun < 2
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200

    def test_a_long_body_is_refused_before_its_end(self, server: Running) -> None:
        with server.connect() as client:
            client.sendall(request("POST", PREDICT, transfer_encoding="chunked"))
            client.sendall((b"10000\r\n" + b"x" * (1 << 16) + b"\r\n") * 17)
            assert read_answer(client).status == 413

    def test_under_any_server_no_more_is_read_than_the_limit(self) -> None:
        asked = 0

        async def receive() -> dict[str, Any]:
            nonlocal asked
            asked += 1
            return {"type": "http.request", "body": b"x" * 40, "more_body": asked < 1000}

        with pytest.raises(RequestError) as raised:
            asyncio.run(read_body(receive, 100))
        assert (raised.value.code, asked) == (Code.TOO_LARGE, 3)

    def test_a_body_without_end_is_cut(self) -> None:
        with running_server(body_bytes=1000) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, transfer_encoding="chunked"))
            with pytest.raises(ConnectionError):
                client.sendall((b"3e8\r\n" + b"x" * 1000 + b"\r\n") * 10_000)
            wait_until(lambda: not server.server.server_state.connections)
            assert rejected(server, "body") >= 1

    def test_long_headers_are_cut(self, server: Running) -> None:
        with server.connect() as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n")
            try:
                for number in range(10_000):
                    client.sendall(b"x-%d: %b\r\n" % (number, b"y" * 100))
            except ConnectionError:
                return
            assert is_closed(client)

    def test_a_long_path_is_cut(self, server: Running) -> None:
        with server.connect() as client:
            client.sendall(b"POST /v1/models/" + b"x" * 500_000)
            assert read_answer(client).status == 431

    @pytest.mark.parametrize(
        "body",
        [
            json.dumps({"instances": ["a"] * 257}).encode(),
            json.dumps({"instances": ["a" * 10_001]}).encode(),
            b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"instances": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        ],
        ids=["rows", "characters", "lists", "objects"],
    )
    def test_what_is_too_much_inside_is_refused_quickly(self, server: Running, body: bytes) -> None:
        server.predict("warm")
        begun = time.perf_counter()
        assert server.ask("POST", PREDICT, body).status == 400
        # 50 ms on a machine of its own.
        assert time.perf_counter() - begun < 0.5

    def test_memory_does_not_grow_with_refusals(self, server: Running) -> None:
        process = psutil.Process()
        body = b"[" * 900_000
        for _ in range(20):
            server.ask("POST", PREDICT, body)
        # No body is part of a cycle, which would keep it until Python looks for such.
        gc.collect()
        gc.disable()
        try:
            before = process.memory_info().rss
            for _ in range(120):
                assert server.ask("POST", PREDICT, body).status == 400
            # 103 MiB were sent.
            assert process.memory_info().rss - before < 30 << 20
        finally:
            gc.enable()


class TestTime:
    """Clients that take their time."""

    def test_slow_clients_are_cut_and_others_served(self) -> None:
        with running_server(header_seconds=0.6, body_seconds=0.6) as server:
            clients = [server.connect() for _ in range(200)]
            try:
                for number, client in enumerate(clients):
                    if number % 3 == 1:
                        client.sendall(b"POST /v1/models/ag_news:predict HTTP/1.1\r\nhost: 127.0.0.1\r\n")
                    elif number % 3 == 2:
                        client.sendall(request("POST", PREDICT, content_length="100") + b"{")
                served = 0
                begun = time.monotonic()
                while time.monotonic() - begun < 2.5:
                    asked = time.monotonic()
                    assert server.predict("abc").status == 200
                    assert time.monotonic() - asked < 2
                    served += 1
                    for client in clients[1::3]:
                        try:
                            client.sendall(b"x: y\r\n")
                        except OSError:
                            break
                assert served > 3
                wait_until(lambda: not server.server.server_state.connections)
                assert all(is_closed(client, 1) for client in clients)
                assert rejected(server, "header_timeout") >= 130
                assert rejected(server, "body_timeout") >= 66
            finally:
                for client in clients:
                    client.close()

    @pytest.mark.parametrize(
        "beginning", [b"GET /healthz HTTP/1.1\r\nhost:", request("POST", "/explain", content_length="9") + b"x"]
    )
    def test_the_limit_holds_for_every_path_and_is_told(self, beginning: bytes) -> None:
        with running_server(header_seconds=0.3, body_seconds=0.3) as server, server.connect() as client:
            client.sendall(beginning)
            if b"explain" in beginning:
                assert is_closed(client)
            else:
                assert read_answer(client).status == 408
                assert is_closed(client)

    def test_a_slow_second_request_is_cut_too(self) -> None:
        with running_server(header_seconds=0.3, body_seconds=0.3) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, GOOD) + b"POST /v1")
            assert read_answer(client).status == 200
            assert read_answer(client).status == 408

    def test_an_idle_connection_is_kept_for_a_while(self) -> None:
        with running_server(idle_seconds=1.0, header_seconds=0.3) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200
            time.sleep(0.8)
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200
            assert is_closed(client)

    def test_who_does_not_read_is_cut(self) -> None:
        with running_server(write_seconds=0.4) as server:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(server.address)
            with client:
                client.sendall(request("GET", "/openapi.json") * 900)
                wait_until(lambda: len(server.server.server_state.connections) == 1)
                wait_until(lambda: not server.server.server_state.connections)
                assert rejected(server, "write_timeout") == 1

    def test_a_model_that_hangs_is_not_waited_for(self) -> None:
        model = FakeModel()
        with running_server(FakeRepository({1: model}), request_seconds=0.2) as server:
            model.gate.clear()
            begun = time.monotonic()
            assert server.predict("abc").status == 504
            assert time.monotonic() - begun < 1
            assert rejected(server, "deadline") == 1
            model.gate.set()


class TestNumber:
    """Many at a time."""

    @pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
    def test_who_sends_without_end_and_waits_for_no_answer_is_cut(self, server: Running, path: str) -> None:
        before = rejected(server, "ahead")
        memory = psutil.Process().memory_info().rss
        sent = request("GET", path) * 1000
        with server.connect() as client, pytest.raises(ConnectionError):
            client.sendall(sent * 500)
        assert rejected(server, "ahead") == before + 1
        assert psutil.Process().memory_info().rss - memory < 50 << 20

    def test_a_full_queue_refuses_and_recovers(self) -> None:
        model = FakeModel()
        with running_server(FakeRepository({1: model}), max_queue_rows=4, instances=4, max_batch_rows=4) as server:
            model.gate.clear()
            clients = [server.connect() for _ in range(12)]
            clients[0].sendall(request("POST", PREDICT, GOOD))
            wait_until(model.asked.is_set)
            for client in clients[1:]:
                client.sendall(request("POST", PREDICT, GOOD))
            wait_until(lambda: rejected(server, "queue") == 7)
            model.gate.set()
            answers = [read_answer(client) for client in clients]
            assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 7
            refused = next(answer for answer in answers if answer.status == 429)
            assert int(refused.headers["retry-after"]) >= 1
            assert server.predict("abc").status == 200
            for client in clients:
                client.close()

    def test_too_many_connections_are_turned_away(self) -> None:
        with running_server(connections=5) as server:
            clients = [server.connect() for _ in range(5)]
            wait_until(lambda: len(server.server.server_state.connections) == 5)
            with server.connect() as more:
                answer = read_answer(more)
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert is_closed(more)
            clients[0].sendall(request("POST", PREDICT, GOOD))
            assert read_answer(clients[0]).status == 200
            for client in clients:
                client.close()
            wait_until(lambda: not server.server.server_state.connections)
            assert server.predict("abc").status == 200
            assert rejected(server, "connections") == 1


class TestWho:
    """The Host header and the token."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8501", "localhost:1", "LOCALHOST", "[::1]:8501"])
    def test_names_of_loopback_pass(self, server: Running, host: str) -> None:
        assert server.predict("a", host=host).status == 200
        assert server.ask("GET", "/", host=host).status == 200

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:1:2", "", "a@localhost"])
    def test_other_names_are_refused_everywhere(self, server: Running, host: str) -> None:
        for answer in (server.predict("a", host=host), server.ask("GET", "/", host=host)):
            assert (answer.status, list(answer.json)) == (403, ["error"])
        assert server.ask("GET", "/metrics", host=host).status == 403

    def test_names_can_be_added(self) -> None:
        with running_server(allowed_hosts="news.example") as server:
            assert server.predict("a", host="news.example:443").status == 200
            assert server.predict("a", host="evil.example").status == 403
        with running_server(allowed_hosts="*") as server:
            assert server.predict("a", host="evil.example").status == 200

    def test_no_other_site_is_let_in(self, server: Running) -> None:
        answer = server.predict("a", origin="https://evil.example")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        preflight = server.ask("OPTIONS", PREDICT, origin="https://evil.example", access_control_request_method="POST")
        assert preflight.status == 400
        assert not [name for name in preflight.headers if name.startswith("access-control")]

    @pytest.mark.parametrize(
        "given",
        [None, "secret", "Bearer", "Bearer wrong", "Bearer secre", "Bearer secret1", "Basic secret", "Bearer é"],
    )
    def test_without_the_token_nothing_of_a_model_is_told(self, given: str | None) -> None:
        headers = {} if given is None else {"authorization": given}
        with running_server(token="secret") as server:
            infer = server.ask("POST", "/v2/models/ag_news/infer", b"{}", **headers)
            closed = [server.predict("a", **headers), infer]
            for path in ("/v1/models/ag_news", "/metrics", "/monitoring/prometheus/metrics", "/explain", "/nothing"):
                closed.append(server.ask("GET", path, **headers))
            assert [answer.status for answer in closed] == [401] * 7
            assert {answer.headers["www-authenticate"] for answer in closed} == {"Bearer"}

    def test_with_the_token_and_where_none_is_needed(self) -> None:
        with running_server(token="secret") as server:
            assert server.predict("a", authorization="Bearer secret").status == 200
            assert server.predict("a", authorization="bearer  secret").status == 200
            assert server.ask("GET", "/metrics", authorization="Bearer secret").status == 200
            for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
                assert server.ask("GET", path).status == 200


class TestNonsense:
    """What is no HTTP."""

    @pytest.mark.parametrize(
        "sent",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"HELLO\r\n\r\n",
            b"POST /v1/models/ag_news:predict HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            b"POST /v1/models/ag_news:predict HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            b"POST /v1/models/m:predict HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST /v1/models/ag_news:predict HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            b"POST /v1/models/\xff:predict HTTP/1.1\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\n\r\n",
        ],
    )
    def test_is_refused_and_the_next_client_served(self, server: Running, sent: bytes) -> None:
        with server.connect() as client:
            client.sendall(sent)
            answer = read_answer(client)
            assert (answer.status, list(answer.json)) == (400, ["error"])
            assert is_closed(client)
        assert server.predict("abc").status == 200

    def test_an_upgrade_is_not_taken(self, server: Running) -> None:
        answer = server.ask("GET", "/healthz", upgrade="websocket", sec_websocket_key="x")
        assert answer.status in (200, 400)
        assert server.predict("abc").status == 200


class TestDrain:
    """The end: readiness first, then those in flight, then the process, and all of it within bounds."""

    def test_in_flight_requests_finish(self) -> None:
        model = FakeModel()
        with running_server(FakeRepository({1: model}), drain_wait_seconds=1.5) as server:
            idle = server.connect()
            idle.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(idle).status == 200
            model.gate.clear()
            model.asked.clear()
            client = server.connect()
            client.sendall(request("POST", PREDICT, GOOD))
            wait_until(model.asked.is_set)
            server.server.handle_exit(signal.SIGTERM, None)
            time.sleep(0.3)
            answer = server.ask("GET", "/readyz")
            assert (answer.status, server.ask("GET", "/healthz").status) == (503, 200)
            with server.connect() as refused:
                refused.sendall(request("POST", "/v1/models/sport:predict", GOOD))
                assert read_answer(refused).headers["connection"] == "close"
                assert is_closed(refused)
            # Still taken, and told to go elsewhere next time.
            late = server.connect()
            late.sendall(request("POST", PREDICT, GOOD))
            wait_until(lambda: server.server.should_exit, 5)
            wait_until(lambda: _refused(server.address), 5)
            model.gate.set()
            for each in (client, late):
                answer = read_answer(each)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert is_closed(idle)
            for each in (idle, client, late):
                each.close()

    def test_what_does_not_finish_is_not_waited_for(self) -> None:
        model = FakeModel()
        begun = time.monotonic()
        with running_server(FakeRepository({1: model}), drain_seconds=1, request_seconds=60) as server:
            model.gate.clear()
            client = server.connect()
            client.sendall(request("POST", PREDICT, GOOD))
            wait_until(model.asked.is_set)
            server.server.handle_exit(signal.SIGTERM, None)
            wait_until(lambda: server.server.should_exit, 5)
            time.sleep(1.5)
            model.gate.set()
        assert time.monotonic() - begun < 8
        client.close()


def _refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return True
    return False
