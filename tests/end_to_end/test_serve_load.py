"""The server while much is asked of it: short forms of what ``benchmarks/serving_speed.py`` measures."""

import json
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from load_generator import make_request, run
from running_server import is_closed, wait_until
from server_process import Served, serving_process
from tiny_versions import expect, point, push_tiny

pytestmark = pytest.mark.e2e

TEXTS = ["Minister signs treaty", "Late goal wins cup", "Bank shares fall", "New telescope sees first star"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    serving = tmp_path_factory.mktemp("pushed") / "serving"
    for number in (1, 2):
        push_tiny(serving, number)
    return serving


def copied(pushed: Path, copy: Path) -> Path:
    """Version 1, which is the champion; version 2 waits beside it under a name that is no version's."""
    shutil.copytree(pushed, copy)
    (copy / "ag_news" / "2").rename(copy / "ag_news" / ".tmp-2")
    point(copy, champion=1)
    return copy


@pytest.fixture
def serving(pushed: Path, tmp_path: Path) -> Path:
    return copied(pushed, tmp_path / "serving")


def requests_to(served: Served) -> list[bytes]:
    url = f"{served.url}/v1/models/ag_news:predict"
    return [make_request(url, json.dumps({"instances": [text]}).encode()) for text in TEXTS]


def test_a_version_arrives_under_load_and_nobody_notices(pushed: Path, tmp_path: Path) -> None:
    """Fault 15. What else the machine does may slow the requests of one arrival, and not those of each of three."""
    assert any(nobody_notices(copied(pushed, tmp_path / f"serving-{attempt}")) for attempt in range(3))


def nobody_notices(serving: Path) -> bool:
    """Returns whether requests took no longer while a version arrived than before."""

    def push() -> None:
        (serving / "ag_news" / ".tmp-2").rename(serving / "ag_news" / "2")
        point(serving, champion=2, previous=1)

    with serving_process(serving) as served:
        asked = requests_to(served)
        run(served.address, asked, 50, 2)
        steady = run(served.address, asked, 50, 6)
        timer = threading.Timer(1.5, push)
        timer.start()
        swapped = run(served.address, asked, 50, 12, keep_bodies=True)
        timer.join()
    assert dict(swapped.statuses) == {200: 600}
    met = set()
    for (number, body), _ in swapped.bodies.items():
        (row,) = json.loads(body)["predictions"]
        answer = (row["label"], round(max(row["probabilities"]), 4))
        met |= {version for version in (1, 2) if answer == expect(TEXTS[number], version)}
        assert answer in (expect(TEXTS[number], 1), expect(TEXTS[number], 2))
    assert met == {1, 2}
    # Three times the steady one, and what a machine that runs other tests may add.
    return swapped.percentile(99) < max(3 * steady.percentile(99), 100)


def test_too_much_is_refused_and_what_is_taken_is_answered_in_time(serving: Path) -> None:
    """Fault 23: overload."""
    with serving_process(serving, max_queue_rows=16, instances=16, max_batch_rows=1, request_seconds=2) as served:
        asked = requests_to(served)
        calm = run(served.address, asked, 50, 1)
        result = run(served.address, asked, 6000, 3, connections=400)
        assert set(result.statuses) <= {200, 429}
        assert result.statuses[429] > 100
        assert result.statuses[200] > 100
        assert result.retry_after == result.statuses[429]
        most = max(3 * calm.percentile(99), 50)
        wait_until(lambda: run(served.address, asked, 50, 0.5).percentile(99) <= most, 60)
        assert served.get("/readyz").status_code == 200


def test_slow_clients_are_cut_and_nobody_else(serving: Path) -> None:
    """Fault 23: 200 clients that never finish a request."""
    with serving_process(serving, header_seconds=1, body_seconds=1) as served:
        asked = requests_to(served)
        run(served.address, asked, 50, 1)
        clients = [socket.create_connection(served.address) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(asked[0][: (20, len(asked[0]) - 3)[number % 2]])
        result = run(served.address, asked, 50, 4)
        assert dict(result.statuses) == {200: 200}
        for client in clients:
            assert is_closed(client)
            client.close()


def test_memory_stays(serving: Path) -> None:
    with serving_process(serving, out=serving.parent / "access") as served:
        process = psutil.Process(served.process.pid)
        asked = requests_to(served)
        run(served.address, asked, 500, 6)
        before = process.memory_info().rss
        result = run(served.address, asked, 500, 12)
        assert not result.errors
        assert process.memory_info().rss < before * 1.05


def test_the_generator_charges_a_stall_to_all_who_would_have_come() -> None:
    """A server that stops for a second: a closed loop would count one slow request."""
    listening = socket.create_server(("127.0.0.1", 0))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    stop, turn, came = threading.Event(), threading.Lock(), []

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(65536):
                with turn:
                    came.append(data)
                    if len(came) == 150:
                        time.sleep(1)
                client.sendall(answer * data.count(b"POST "))

    def accept() -> None:
        while not stop.is_set():
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    result = run(listening.getsockname()[:2], [make_request("http://localhost/x", b"{}")], 100, 4)
    stop.set()
    listening.close()
    assert result.errors == 0
    # The stop began when the 150th was due or later, and whoever was due within a second had to wait for its end.
    end = result.due[149] + 1
    meanwhile = (result.due > end - 1) & (result.due < end)
    assert np.sum(meanwhile) > 60
    assert np.mean((result.due + result.latencies)[meanwhile] >= end) > 0.9
    assert result.percentile(50) < 1000
