"""How much, how long and who: every limit is met on purpose, and a client that keeps to them is served meanwhile."""

import asyncio
import gc
import json
import logging
import select
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import MutableMapping
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from fake_models import FakeModel, FakeRepository
from running_server import Running, is_closed, read_answer, request, running_server, wait_until
from work_done import bytes_of, lines_of

from serving.config import make_config
from serving.errors import Code, RequestError
from serving.http.app import App
from serving.limits import read_body

PREDICT = "/v1/models/ag_news:predict"
GOOD = b'{"instances": ["abc"]}'
# A body has a mebibyte: to walk through one in Python, or to make what is in it, is beyond these.
MOST_LINES, MOST_BYTES = 10_000, 16 << 20


@pytest.fixture(scope="module")
def server() -> Any:
    with running_server() as running:
        yield running


def rejected(server: Running, reason: str) -> int:
    return server.app.metrics.rejected[reason]


def refusals() -> list[RequestError]:
    """Returns those that are alive."""
    return [each for each in gc.get_objects() if isinstance(each, RequestError)]


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
        body, before = b"x" * (2 << 20), Counter(server.app.metrics.rejected)
        with server.connect() as client:
            if chunked:
                client.sendall(request("POST", path, transfer_encoding="chunked"))
                for start in range(0, len(body), 1 << 16):
                    client.sendall(b"10000\r\n" + body[start : start + (1 << 16)] + b"\r\n")
                client.sendall(b"0\r\n\r\n")
            else:
                client.sendall(request("POST", path, body))
            assert read_answer(client).status == 413
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200
        # By its size, and by no limit in time.
        assert Counter(server.app.metrics.rejected) - before == {"body": 1}

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
    def test_what_is_too_much_inside_is_refused_for_little_work(self, server: Running, body: bytes) -> None:
        assert server.ask("POST", PREDICT, body).status == 400
        model = FakeModel()
        app = App(FakeRepository({1: model}), make_config({"model_dir": "nowhere"}))
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": [(b"host", b"127.0.0.1")]}
        assert lines_of(lambda: asyncio.run(app(scope, receive, send))) < MOST_LINES
        assert bytes_of(lambda: asyncio.run(app(scope, receive, send))) < MOST_BYTES
        assert (sent[0]["status"], model.batches) == (400, [])

    def test_a_client_that_may_not_ask_is_refused_before_its_body(self) -> None:
        with running_server(token="secret") as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, expect="100-continue", content_length="1000"))
            assert read_answer(client).status == 401

    @pytest.mark.parametrize("body", [b"{", b'{"instances": ["bad"]}', b'{"instances": ["broken"]}', b"late", b"full"])
    def test_no_refusal_is_part_of_a_cycle(self, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
        """Which would keep the body until Python looks for such."""
        # pytest keeps what is logged, with its traceback.
        monkeypatch.setattr(logging.getLogger("newsdesk"), "disabled", True)
        model = FakeModel()
        settings: dict[str, Any] = {"max_queue_rows": 1, "instances": 1, "max_batch_rows": 1}
        if body == b"late":
            settings["request_seconds"] = 0.2
        with running_server(FakeRepository({1: model}), **settings) as server:
            gc.collect()
            gc.disable()
            # Other tests of the process may keep some: a list of parameters, an exception that pytest holds.
            known = {id(each) for each in refusals()}
            try:
                if body == b"late":
                    model.gate.clear()
                    assert server.predict("late").status == 504
                    model.gate.set()
                elif body == b"full":
                    model.gate.clear()
                    clients = [server.connect() for _ in range(3)]
                    for client in clients:
                        client.sendall(request("POST", PREDICT, GOOD))
                    wait_until(lambda: rejected(server, "queue") >= 1)
                    model.gate.set()
                    for client in clients:
                        read_answer(client)
                        client.close()
                else:
                    assert server.ask("POST", PREDICT, body).status in (400, 500)
                wait_until(lambda: not [each for each in refusals() if id(each) not in known])
            finally:
                gc.enable()

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

    @staticmethod
    def slow(server: Running, stack: ExitStack) -> list[socket.socket]:
        """Returns 200 clients that have sent nothing, half of the headers, or a byte of a body."""
        beginnings = (
            b"",
            b"POST /v1/models/ag_news:predict HTTP/1.1\r\nhost: 127.0.0.1\r\n",
            request("POST", PREDICT, content_length="100") + b"{",
        )
        clients = []
        for number in range(200):
            clients.append(stack.enter_context(server.connect()))
            clients[-1].sendall(beginnings[number % 3])
        return clients

    def test_others_are_served_while_slow_clients_wait(self) -> None:
        with running_server(header_seconds=600, body_seconds=600) as server, ExitStack() as stack:
            clients = self.slow(server, stack)
            assert [server.predict("abc").status for _ in range(20)] == [200] * 20
            assert not any(select.select(clients, [], [], 0))
            assert len(server.server.server_state.connections) >= 200

    def test_slow_clients_are_cut_and_others_served(self) -> None:
        with running_server(header_seconds=1.5, body_seconds=1.5) as server, ExitStack() as stack:
            clients = self.slow(server, stack)

            def all_cut() -> bool:
                assert server.predict("abc").status == 200
                for client in clients[1::3]:
                    # Another header does not begin the time anew.
                    with suppress(OSError):
                        client.sendall(b"x: y\r\n")
                return not server.server.server_state.connections

            wait_until(all_cut)
            assert all(map(is_closed, clients))
            assert rejected(server, "header_timeout") >= 130
            assert rejected(server, "body_timeout") >= 66

    @pytest.mark.parametrize(
        "beginning", [b"GET /healthz HTTP/1.1\r\nhost:", request("POST", "/explain", content_length="9") + b"x"]
    )
    def test_the_limit_holds_for_every_path_and_is_told(self, beginning: bytes) -> None:
        with running_server(header_seconds=0.3, body_seconds=0.3) as server, server.connect() as client:
            client.sendall(beginning)
            assert read_answer(client).status == 408
            assert is_closed(client)

    def test_a_slow_body_behind_another_request_is_not_refused_in_its_place(self) -> None:
        model = FakeModel()
        with running_server(FakeRepository({1: model}), body_seconds=0.3) as server, server.connect() as client:
            model.gate.clear()
            client.sendall(request("POST", PREDICT, GOOD) + request("POST", PREDICT, content_length="9") + b"x")
            wait_until(model.asked.is_set)
            time.sleep(1.2)
            model.gate.set()
            buffer = bytearray()
            # The clock of the second one stands while the server is at the first.
            assert read_answer(client, buffer).status == 200
            assert read_answer(client, buffer).status == 408
            assert is_closed(client)

    @pytest.mark.parametrize("rest", [b"", b"x" * 99])
    def test_a_connection_whose_request_was_refused_early_is_not_kept_for_ever(self, rest: bytes) -> None:
        with running_server(body_seconds=0.3, idle_seconds=0.3, body_bytes=100) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, content_length="199") + b"x" * 100)
            assert read_answer(client).status == 413
            client.sendall(rest)
            # Nothing more is said, since the client would take it for the answer to its next request.
            assert client.recv(100) == b""

    def test_a_slow_second_request_is_cut_too(self) -> None:
        with running_server(header_seconds=0.3, body_seconds=0.3) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, GOOD) + b"POST /v1")
            assert read_answer(client).status == 200
            assert read_answer(client).status == 408

    @pytest.mark.parametrize(("seconds", "closed"), [(600.0, False), (1.0, True)])
    def test_an_idle_connection_is_kept_for_a_while(self, seconds: float, closed: bool) -> None:
        with running_server(idle_seconds=seconds, header_seconds=0.3) as server, server.connect() as client:
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200
            if closed:
                assert is_closed(client)
                return
            time.sleep(1.2)
            client.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(client).status == 200

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
            assert server.predict("abc").status == 504
            assert (model.asked.is_set(), model.ended) == (True, 0)
            assert rejected(server, "deadline") == 1
            model.gate.set()


class TestNumber:
    """Many at a time."""

    @pytest.mark.parametrize("path", ["/healthz", "/openapi.json"])
    def test_who_sends_without_end_and_waits_for_no_answer_is_cut(
        self, server: Running, path: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = rejected(server, "ahead")
        memory = psutil.Process().memory_info().rss
        sent = request("GET", path) * 1000
        with server.connect() as client, pytest.raises(ConnectionError):
            client.sendall(sent * 500)
        assert rejected(server, "ahead") == before + 1
        assert psutil.Process().memory_info().rss - memory < 50 << 20
        assert caplog.messages == []

    def test_who_sends_ahead_and_reads_is_read_no_faster_than_answered(self, server: Running) -> None:
        before = rejected(server, "ahead")
        sent = request("POST", PREDICT, GOOD + b" " * 500)
        with server.connect() as client:
            sender = threading.Thread(target=client.sendall, args=[sent * 2500])
            sender.start()
            buffer = bytearray()
            assert [read_answer(client, buffer).status for _ in range(2500)] == [200] * 2500
            sender.join(10)
        assert rejected(server, "ahead") == before

    def test_a_request_that_is_answered_learns_that_its_connection_was_cut(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Though others were sent ahead, of which uvicorn knows the last."""
        model = FakeModel()
        with running_server(FakeRepository({1: model})) as server:
            model.gate.clear()
            with server.connect() as client:
                client.sendall(request("POST", PREDICT, GOOD))
                wait_until(model.asked.is_set)
                client.sendall(request("POST", PREDICT, GOOD) * 2 + b"\0 is no HTTP")
                assert is_closed(client)
            wait_until(lambda: not server.server.server_state.connections)
            model.gate.set()
            wait_until(lambda: not server.server.server_state.tasks)
            assert server.predict("abc").status == 200
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []

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

    def test_in_flight_requests_finish(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, passed, looks = FakeModel(), [0.0], [0]

        def monotonic() -> float:
            """As everybody's clock, and ahead where the test says so; the server looks at it at each tick."""
            looks[0] += 1
            return time.monotonic() + passed[0]

        monkeypatch.setattr("serving.http.server.time", SimpleNamespace(monotonic=monotonic))
        with running_server(FakeRepository({1: model}), drain_wait_seconds=60, idle_seconds=600) as server:
            idle = server.connect()
            idle.sendall(request("POST", PREDICT, GOOD))
            assert read_answer(idle).status == 200
            model.gate.clear()
            model.asked.clear()
            client = server.connect()
            client.sendall(request("POST", PREDICT, GOOD))
            wait_until(model.asked.is_set)
            server.server.handle_exit(signal.SIGTERM, None)
            ticks = looks[0]
            wait_until(lambda: looks[0] > ticks + 2)
            answer = server.ask("GET", "/readyz")
            assert (answer.status, server.ask("GET", "/healthz").status) == (503, 200)
            with server.connect() as refused:
                refused.sendall(request("POST", "/v1/models/sport:predict", GOOD))
                assert read_answer(refused).headers["connection"] == "close"
                assert is_closed(refused)
            # Still taken, and told to go elsewhere next time.
            late = server.connect()
            late.sendall(request("POST", PREDICT, GOOD))
            wait_until(lambda: server.repository.in_use == 2)
            assert not server.server.should_exit
            passed[0] = 60
            wait_until(lambda: server.server.should_exit)
            wait_until(lambda: _refused(server.address))
            model.gate.set()
            for each in (client, late):
                answer = read_answer(each)
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert is_closed(idle)
            for each in (idle, client, late):
                each.close()

    def test_what_does_not_finish_is_not_waited_for(self) -> None:
        model = FakeModel()
        with (
            running_server(FakeRepository({1: model}), drain_seconds=1, request_seconds=600) as server,
            server.connect() as client,
        ):
            model.gate.clear()
            client.sendall(request("POST", PREDICT, GOOD))
            wait_until(model.asked.is_set)
            server.server.handle_exit(signal.SIGTERM, None)
            assert is_closed(client)
            assert model.ended == 0
            model.gate.set()


def _refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=30).close()
    except ConnectionRefusedError:
        return True
    return False
