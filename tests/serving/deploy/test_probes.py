"""The very commands of the probes, in the shell that the image has."""

import json
import subprocess
from collections.abc import Callable

import pytest
from deploy_files import inference_service
from deploy_tools import read_compose
from nginx_front import free_port, run_fake_serving


def compose_probe(port: int) -> list[str]:
    kind, *command = read_compose()["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    return [part.replace("/127.0.0.1/8501", f"/127.0.0.1/{port}") for part in command]


def kserve_probe(port: int) -> list[str]:
    command = inference_service()["spec"]["predictor"]["model"]["readinessProbe"]["exec"]["command"]
    return [part.replace("/127.0.0.1/8080", f"/127.0.0.1/{port}") for part in command]


PROBES = pytest.mark.parametrize(
    ("probe", "path"),
    [(compose_probe, "/v1/models/ag_news/labels/champion:predict"), (kserve_probe, "/v1/models/ag_news:predict")],
    ids=["compose", "kserve"],
)


def ask(probe: Callable[[int], list[str]], port: int) -> int:
    command = probe(port)
    assert str(port) in command[-1]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode


@PROBES
def test_a_probe_is_one_whole_request_for_a_prediction(probe: Callable[[int], list[str]], path: str) -> None:
    with run_fake_serving() as fake:
        assert ask(probe, fake.port) == 0
    (asked,) = fake.asked
    assert (asked.method, asked.path) == ("POST", path)
    assert json.loads(asked.body) == {"instances": ["ready"]}


@PROBES
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_probe_sees_a_model_that_does_not_answer(probe: Callable[[int], list[str]], path: str, status: int) -> None:
    with run_fake_serving() as fake:
        fake.status = status
        assert ask(probe, fake.port) != 0


@PROBES
def test_a_probe_sees_that_nobody_listens(probe: Callable[[int], list[str]], path: str) -> None:
    assert ask(probe, free_port()) != 0


@PROBES
def test_a_probe_does_not_wait_for_ever(probe: Callable[[int], list[str]], path: str) -> None:
    with run_fake_serving() as fake:
        fake.delay = 5
        assert ask(probe, fake.port) != 0
