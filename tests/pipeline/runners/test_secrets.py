"""Secrets reach the environment of a step from Secret Manager, and nothing else."""

import base64
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fake_service import FakeService
from google.auth.exceptions import DefaultCredentialsError
from google.oauth2.credentials import Credentials

from components.errors import BadInputError
from pipeline.runners.secrets import bring_secrets

PLACE = "projects/p1/secrets/mlflow-token/versions/latest"
OTHER = "projects/p1/secrets/db/versions/3"


def payload(value: bytes) -> tuple[int, Any]:
    return 200, {"name": PLACE, "payload": {"data": base64.b64encode(value).decode()}}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    answers = {
        ("GET", f"/v1/{PLACE}:access"): payload("s3cr3t-ü".encode()),
        ("GET", f"/v1/{OTHER}:access"): payload(b"another"),
    }
    monkeypatch.setattr("google.auth.default", lambda scopes: (Credentials(f"for {scopes}"), "p1"))
    with FakeService(answers).serving() as service:
        yield service


def test_a_secret_becomes_a_variable(manager: FakeService) -> None:
    environment = {"KEPT": "as it was"}
    bring_secrets([f"MLFLOW_TRACKING_TOKEN={PLACE}", f"NEWSDESK_METADATA_PASSWORD={OTHER}"], environment, manager.url)
    assert environment == {
        "KEPT": "as it was",
        "MLFLOW_TRACKING_TOKEN": "s3cr3t-ü",
        "NEWSDESK_METADATA_PASSWORD": "another",
    }


def test_it_is_asked_for_as_the_account_of_the_step(manager: FakeService) -> None:
    bring_secrets([f"A={PLACE}"], {}, manager.url)
    (asked,) = manager.asked
    assert asked.headers["authorization"] == "Bearer for ['https://www.googleapis.com/auth/cloud-platform']"


@pytest.mark.parametrize(
    "assignment",
    [
        "TOKEN",
        "TOKEN=",
        "TOKEN=s3cr3t",
        "TOKEN=projects/p1/secrets/../versions/1",
        f"TOKEN={PLACE}/more",
        f"TOKEN=https://elsewhere/{PLACE}",
        f"TOKEN={PLACE}?alt=media",
    ],
)
def test_what_is_no_place_is_refused_unasked_and_unrepeated(manager: FakeService, assignment: str) -> None:
    with pytest.raises(BadInputError, match=r"^--secret takes TOKEN=projects/P/secrets/NAME/versions/V$"):
        bring_secrets([assignment], {}, manager.url)
    assert not manager.asked


@pytest.mark.parametrize(
    "answer",
    [
        (403, {"error": "s3cr3t"}),
        (404, {}),
        (500, {}),
        (200, {}),
        (200, {"payload": {"data": "no base64!"}}),
        payload(b"\xff\xfe"),
    ],
)
def test_a_secret_that_cannot_be_read_is_one_sentence(manager: FakeService, answer: tuple[int, Any]) -> None:
    manager.answers["GET", f"/v1/{PLACE}:access"] = answer
    environment: dict[str, str] = {}
    with pytest.raises(BadInputError, match=f"^secret {PLACE} for TOKEN cannot be read .* service account") as refused:
        bring_secrets([f"TOKEN={PLACE}"], environment, manager.url)
    assert "s3cr3t" not in str(refused.value)
    assert environment == {}


def test_without_credentials_it_says_so(manager: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(scopes: list[str]) -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.setattr("google.auth.default", none)
    with pytest.raises(BadInputError, match=r"cannot be read \(DefaultCredentialsError\)"):
        bring_secrets([f"TOKEN={PLACE}"], {}, manager.url)
    assert not manager.asked


@pytest.mark.timeout(60)
def test_a_manager_that_does_not_answer_is_not_waited_for(
    manager: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runners.secrets._SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(BadInputError, match=r"cannot be read \(ReadTimeout\)"):
            bring_secrets([f"TOKEN={PLACE}"], {}, f"http://{host}:{port}")
