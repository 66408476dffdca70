"""``newsdesk serve`` as a process, over loopback, with real SavedModels."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from running_server import wait_until
from server_process import ROOT, Served, serving_process
from tiny_versions import expect, point, push_tiny

pytestmark = pytest.mark.e2e

PREDICT = "/v1/models/ag_news:predict"
SCHEMATHESIS_CASES = int(os.environ.get("NEWSDESK_FUZZ_CASES", "10"))
"""For each operation; ten thousand in all need some 300."""
SCHEMATHESIS_SECONDS = 600 + 10 * SCHEMATHESIS_CASES
# What the description cannot say is refused too: labels that nobody configured, a shape that is not that of the data.
# A method below /v1/ that is not there is 400, as TensorFlow Serving has it, not 405.
SCHEMATHESIS = """
[checks]
positive_data_acceptance.enabled = false
unsupported_method.enabled = false
negative_data_rejection.expected-statuses = ["4xx"]
"""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2, of which 1 is the champion."""
    serving = tmp_path_factory.mktemp("pushed") / "serving"
    for number in (1, 2):
        push_tiny(serving, number)
    point(serving, champion=1)
    return serving


@pytest.fixture
def serving(pushed: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    copy = tmp_path / "serving"
    shutil.copytree(pushed, copy)
    point(copy, champion=1)
    return copy


@pytest.fixture(scope="module")
def server(pushed: Path) -> Iterator[Served]:
    with serving_process(pushed) as served:
        yield served


def test_a_server_says_what_it_serves_and_ends_well(pushed: Path, tmp_path: Path) -> None:
    log = tmp_path / "access"
    with serving_process(pushed, out=log) as served:
        said = "".join(served.said)
        assert "ag_news version 1 (champion)" in said
        assert f"{served.url}/docs" in said
        assert len(served.said) < 10, said
        assert served.address[0] == "127.0.0.1"
        assert served.answers("a headline") == expect("a headline", 1)
        assert served.get("/readyz").status_code == 200
        assert served.end() == 0
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["status"], line["rows"]) for line in lines] == [(200, 1)]
    assert "a headline" not in json.dumps(lines)


def test_ctrl_c_ends_it_as_well(pushed: Path) -> None:
    with serving_process(pushed) as served:
        assert served.end(signal.SIGINT) == 0


def test_it_listens_on_loopback_only(server: Served) -> None:
    listening = [each for each in psutil.Process(server.process.pid).net_connections("inet") if each.status == "LISTEN"]
    assert [each.laddr.ip for each in listening] == ["127.0.0.1"]


def start(*arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pipeline.cli.main", "serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def test_what_cannot_be_served_is_told_in_one_sentence(serving: Path, tmp_path: Path, server: Served) -> None:
    (tmp_path / "empty").mkdir()
    (serving / "ag_news" / "1" / "saved_model.pb").write_bytes(b"damaged")
    taken = str(server.address[1])
    for arguments, words in [
        (("--model-dir", tmp_path / "empty", "--port", "0"), "there is no model in"),
        (("--model-dir", tmp_path / "nowhere", "--port", "0"), "there is no directory"),
        (("--model-dir", serving, "--port", "0"), "no version of ag_news can be served"),
        (("--model-dir", serving, "--port", taken), "cannot listen on 127.0.0.1"),
        (("--model-dir", serving, "--set", "max_batch_row=1"), "did you mean 'max_batch_rows'"),
    ]:
        code, said = start(*arguments)
        (last,) = [line for line in said.splitlines() if line.startswith("newsdesk: ") and words in line]
        assert (code, "Traceback" in said) == (2, False), said
        assert last


def test_every_protocol_gives_the_same_answer(server: Served) -> None:
    text = "Minister signs treaty"
    label, probability = expect(text, 1)
    assert server.answers(text) == (label, probability)
    assert server.answers(text, "/v1/models/ag_news/labels/champion:predict") == (label, probability)
    infer = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}]}
    answer = requests.post(f"{server.url}/v2/models/ag_news/infer", json=infer, timeout=30).json()
    assert {each["name"]: each["data"] for each in answer["outputs"]}["label"] == [label]
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    example.features.feature["text"].bytes_list.value.append(text.encode())
    coded = {"b64": base64.b64encode(example.SerializeToString()).decode()}
    body = {"signature_name": "serve_examples", "instances": [coded]}
    (row,) = requests.post(server.url + PREDICT, json=body, timeout=30).json()["predictions"]
    assert row["label"] == label
    page = requests.post(f"{server.url}/explain", json={"model": "ag_news", "text": text}, timeout=30).json()
    assert page["label"] == label


def test_a_version_that_is_promoted_and_rolled_back_is_followed(serving: Path) -> None:
    with serving_process(serving) as served:
        assert served.answers("text") == expect("text", 1)
        point(serving, champion=2, previous=1)
        wait_until(lambda: served.answers("text") == expect("text", 2), 60)
        point(serving, champion=1, previous=2)
        wait_until(lambda: served.answers("text") == expect("text", 1), 60)


def test_a_challenger_gets_its_share(serving: Path) -> None:
    point(serving, champion=1, challenger=2)
    with serving_process(serving, canary_share=0.3) as served:
        found = [served.answers("text") == expect("text", 2) for _ in range(200)]
        assert 30 < sum(found) < 95
        assert served.answers("text", "/v1/models/ag_news/labels/challenger:predict") == expect("text", 2)
        assert {served.answers("text", "/v1/models/ag_news/labels/champion:predict")} == {expect("text", 1)}
        metrics = served.get("/metrics").text
        counted = (
            f'newsdesk_requests_total{{code="200",label="challenger",model="ag_news",version="2"}} {sum(found) + 1}.0'
        )
        assert counted in metrics


def damage_graph(serving: Path, number: int) -> None:
    directory = push_tiny(serving, number)
    (directory / "saved_model.pb").write_bytes(b"damaged")


def cut_weights(serving: Path, number: int) -> None:
    directory = push_tiny(serving, number)
    (weights,) = directory.glob("variables/variables.data-*")
    os.truncate(weights, weights.stat().st_size // 2)


def leave_signature_out(serving: Path, number: int) -> None:
    """With a manifest that fits: nothing but reading it tells."""
    push_tiny(serving, number, without="serving_default")


def test_a_version_that_cannot_serve_displaces_nothing(serving: Path) -> None:
    """Fault 16."""
    words = {
        damage_graph: "saved_model.pb has changed",
        cut_weights: "variables.data-00000-of-00001 has changed",
        leave_signature_out: "serving_default",
    }
    with serving_process(serving) as served:
        for number, damage in enumerate(words, 3):
            damage(serving, number)
            point(serving, champion=number, previous=1)

            def state(version: str = str(number)) -> dict[str, Any]:
                found = served.get("/v1/models/ag_news").json()["model_version_status"]
                return next((each for each in found if each["version"] == version), {})

            wait_until(lambda: state().get("state") == "END", 60)
            assert words[damage] in state()["status"]["error_message"]
            assert served.answers("text") == expect("text", 1)
            assert served.get("/readyz").status_code == 200
            counted = f'newsdesk_load_failures_total{{model="ag_news"}} {number - 2}.0'
            assert counted in served.get("/metrics").text


def passes(server: Served) -> str:
    """Returns how many batches the model had, as ``/metrics`` has it."""
    (line,) = [
        line for line in server.get("/metrics").text.splitlines() if line.startswith("newsdesk_batch_rows_count ")
    ]
    return line


class TestTooMuch:
    """Fault 19: refused before it reaches the model, memory flat, the process alive."""

    BODIES = (
        (b'{"instances": ["' + b"x" * (1 << 20) + b'"]}', 413),
        (json.dumps({"instances": ["x"] * 257}).encode(), 400),
        (json.dumps({"instances": ["x" * 10_001]}).encode(), 400),
        (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"instances": [' + b",".join([b"[]"] * 349_000) + b"]}", 400),
    )

    def test_is_refused(self, server: Served) -> None:
        process, before_model = psutil.Process(server.process.pid), passes(server)
        with requests.Session() as session:
            for body, status in self.BODIES * 3:
                assert session.post(server.url + PREDICT, data=body, timeout=30).status_code == status
            before = process.memory_info().rss
            for body, status in self.BODIES * 25:
                answer = session.post(server.url + PREDICT, data=body, timeout=30)
                assert answer.status_code == status
                assert list(answer.json()) == ["error"]
        assert process.memory_info().rss < before * 1.05 + (4 << 20)
        assert passes(server) == before_model
        assert server.predict("fine").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"instances": ["a"], "inputs": ["a"]}',
        b'{"signature_name": "serving_default"}',
        b'{"instances": []}',
        b'{"instances": {}}',
        b'{"instances": [1]}',
        b'{"instances": [["a"]]}',
        b'{"instances": [NaN]}',
        b'{"instances": [Infinity]}',
        b'{"instances": [{"b64": "%%%"}]}',
        b'{"instances": ["\\ud800"]}',
        b'{"instances": ["a"], "signature_name": "other"}',
        b'{"instances": ["a"], "signature_name": 7}',
        b'{"instances": ["\xff"]}',
        b'{"signature_name": "serve_examples", "instances": [{"b64": "AAAA"}]}',
    ],
)
def test_what_is_wrong_is_refused_and_never_an_error_of_the_server(server: Served, body: bytes) -> None:
    """Fault 20."""
    answer = requests.post(server.url + PREDICT, data=body, timeout=30)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


@pytest.mark.timeout(SCHEMATHESIS_SECONDS + 60)
def test_its_description_holds(server: Served, tmp_path: Path) -> None:
    """Faults 20 and 21, by cases that schemathesis makes of the description."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS, encoding="utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{server.url}/openapi.json", "--max-examples", str(SCHEMATHESIS_CASES), "--workers", "1"]
    command += ["--seed", "1", "--request-timeout", "10", "--no-color", "--warnings", "off"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SCHEMATHESIS_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.predict("fine").status_code == 200


def test_requests_in_flight_finish_when_it_is_told_to_end(serving: Path) -> None:
    with serving_process(serving, drain_wait_seconds=5.0) as served:
        answered: list[Any] = []

        def is_gone() -> bool:
            try:
                answered.append(served.predict("text").status_code)
            except requests.ConnectionError:
                return True
            return False

        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: served.get("/readyz").status_code == 503)
        wait_until(is_gone, 60)
        assert set(answered) == {200}
        assert served.process.wait(60) == 0


def test_a_client_that_hangs_does_not_keep_it_alive(serving: Path) -> None:
    with (
        serving_process(serving, drain_wait_seconds=0, drain_seconds=1, body_seconds=600) as served,
        socket.create_connection(served.address) as client,
    ):
        client.sendall(b"POST /v1/models/ag_news:predict HTTP/1.1\r\ncontent-length: 10\r\n\r\n")
        # Once this is answered, the other request has been read.
        assert served.get("/readyz").status_code == 200
        assert served.end() == 0
