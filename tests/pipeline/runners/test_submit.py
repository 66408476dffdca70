"""What is sent to Kubeflow Pipelines and to Vertex AI, as servers of their kind see it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_service import FakeService

from components.errors import BadInputError
from pipeline.config.config import Config, override
from pipeline.config.presets import make_config
from pipeline.runners.submit import read_arguments, submit_kubeflow, submit_vertex

API = "/apis/v2beta1"
HOME = "/projects/p1/locations/europe-west4"
JOB = {"name": f"{HOME[1:]}/pipelineJobs/j1", "displayName": "ag-news", "state": "PIPELINE_STATE_PENDING"}
SCHEDULE = {"name": f"{HOME[1:]}/schedules/s1", "displayName": "ag-news", "cron": "TZ=Europe/Paris 30 3 * * *"}
TIMES = {"schedule.cron": "30 3 * * mon-fri", "schedule.time_zone": "Europe/Paris"}
SPEC = {
    "pipelineInfo": {"name": "ag-news"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "test",
    "components": {"comp-a": {"executorLabel": "exec-a"}},
    "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "image", "command": ["true"]}}}},
    "root": {
        "dag": {"tasks": {"a": {"taskInfo": {"name": "a"}, "componentRef": {"name": "comp-a"}, "cachingOptions": {}}}},
        "inputDefinitions": {
            "parameters": {
                "data": {"parameterType": "STRING", "defaultValue": "/data/feed"},
                "epochs": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3},
            }
        },
    },
}
TEXT = yaml.safe_dump(SPEC)


def config(**settings: str) -> Config:
    return override(make_config("sample"), settings)


@pytest.fixture
def kubeflow() -> Iterator[FakeService]:
    experiment = {"experiment_id": "e1", "display_name": "ag-news"}
    answers = {
        ("GET", f"{API}/healthz"): (200, {"multi_user": False}),
        ("GET", f"{API}/experiments"): (200, {"experiments": [experiment]}),
        ("GET", f"{API}/experiments/e1"): (200, experiment),
        ("POST", f"{API}/runs"): (200, {"run_id": "r1", "display_name": "ag-news"}),
        ("GET", f"{API}/recurringruns"): (200, {}),
        ("POST", f"{API}/recurringruns"): (200, {"recurring_run_id": "s2"}),
        ("DELETE", f"{API}/recurringruns/s1"): (200, {}),
    }
    with FakeService(answers).serving() as service:
        yield service


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients keep notes of their own, and look around for credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)


def send(service: FakeService, scheduled: bool, replace: bool = False, **more: Any) -> Any:
    arguments = more.pop("arguments", {"epochs": 5})
    return submit_kubeflow(
        TEXT, config(**TIMES, **more), arguments, scheduled, replace, {"KF_PIPELINES_ENDPOINT": service.url}
    )


def test_a_run_on_kubeflow(kubeflow: FakeService) -> None:
    done = send(kubeflow, False, **{"orchestrator.server_time_zone": "Europe/Paris"})
    assert (done.name, done.shown_at) == ("r1", f"{kubeflow.url}/#/runs/details/r1")
    (asked,) = kubeflow.of("POST", f"{API}/runs")
    assert asked.body["display_name"] == "ag-news"
    assert asked.body["experiment_id"] == "e1"
    assert asked.body["runtime_config"]["parameters"] == {"epochs": 5}
    sent = asked.body["pipeline_spec"]
    assert sent["root"]["dag"]["tasks"]["a"].get("cachingOptions", {}) in ({}, {"enableCache": False})
    assert sent["deploymentSpec"] == SPEC["deploymentSpec"]


def test_a_recurring_run_on_kubeflow(kubeflow: FakeService) -> None:
    done = send(kubeflow, True, **{"orchestrator.server_time_zone": "Europe/Paris"})
    assert done.name == "s2"
    (asked,) = kubeflow.of("POST", f"{API}/recurringruns")
    # Six fields, seconds first.
    assert asked.body["trigger"] == {"cron_schedule": {"cron": "0 30 3 * * 1,2,3,4,5"}}
    assert (asked.body["max_concurrency"], asked.body["no_catchup"]) in (("1", True), (1, True))
    assert (asked.body["mode"], asked.body["experiment_id"]) == ("ENABLE", "e1")
    assert asked.body["runtime_config"]["parameters"] == {"epochs": 5}
    assert asked.body["pipeline_spec"]["deploymentSpec"] == SPEC["deploymentSpec"]


def test_a_second_recurring_run_is_refused_or_takes_the_place(kubeflow: FakeService) -> None:
    old = {"recurring_run_id": "s1", "display_name": "ag-news"}
    kubeflow.answers["GET", f"{API}/recurringruns"] = (200, {"recurringRuns": [old]})
    zone = {"orchestrator.server_time_zone": "Europe/Paris"}
    with pytest.raises(BadInputError, match=r"there is a schedule ag-news already \(s1\)"):
        send(kubeflow, True, **zone)
    assert kubeflow.of("POST", f"{API}/recurringruns") == []
    assert send(kubeflow, True, replace=True, **zone).replaced == ("s1",)
    methods = [(asked.method, asked.path) for asked in kubeflow.asked if "recurringruns" in asked.path]
    # The old one goes once the new one stands.
    assert methods[-2:] == [("POST", f"{API}/recurringruns"), ("DELETE", f"{API}/recurringruns/s1")]


def test_a_server_in_another_zone_is_refused(kubeflow: FakeService) -> None:
    with pytest.raises(BadInputError, match="Kubeflow reads a cron in the zone of its server, UTC"):
        send(kubeflow, True)
    assert kubeflow.asked == []


def test_kubeflow_takes_its_token_from_the_environment(
    kubeflow: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("t0k3n")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    environment = {"KF_PIPELINES_ENDPOINT": kubeflow.url, "KF_PIPELINES_SA_TOKEN_PATH": str(token)}
    submit_kubeflow(TEXT, config(), {}, False, False, environment)
    (asked,) = kubeflow.of("POST", f"{API}/runs")
    assert asked.headers["authorization"] == "Bearer t0k3n"


def test_a_kubeflow_that_refuses_is_one_sentence(kubeflow: FakeService) -> None:
    kubeflow.answers["POST", f"{API}/runs"] = (403, {"error": "body that is not repeated"})
    with pytest.raises(BadInputError, match=r"does not answer or refuses \(403 Forbidden\)") as caught:
        submit_kubeflow(TEXT, config(), {}, False, False, {"KF_PIPELINES_ENDPOINT": kubeflow.url})
    assert "not repeated" not in str(caught.value)


def test_kubeflow_without_an_address() -> None:
    with pytest.raises(BadInputError, match="set KF_PIPELINES_ENDPOINT"):
        submit_kubeflow(TEXT, config(), {}, False, False, {})


@pytest.fixture
def vertex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    answers: dict[tuple[str, str], tuple[int, Any]] = {
        ("POST", "/token"): (200, {"access_token": "t", "expires_in": 9})
    }
    for version in ("/v1", "/v1beta1"):
        answers |= {
            ("POST", f"{version}{HOME}/pipelineJobs"): (200, JOB),
            ("POST", f"{version}{HOME}/schedules"): (200, SCHEDULE),
            ("GET", f"{version}{HOME}/schedules"): (200, {}),
        }
    with FakeService(answers).serving() as service:
        key = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        account = {
            "type": "service_account",
            "client_email": "me@p1.example",
            "private_key": key.decode(),
            "token_uri": f"{service.url}/token",
        }
        path = tmp_path / "account.json"
        path.write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        # Vertex's client looks whether the bucket is there.
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", service.url)
        yield service


def on_vertex(service: FakeService, scheduled: bool, replace: bool = False) -> Any:
    settings = config(
        **TIMES,
        **{
            "orchestrator.endpoint": service.url,
            "orchestrator.bucket": "gs://bucket/pipelines",
            "orchestrator.service_account": "runner@p1.example",
        },
    )
    return submit_vertex(TEXT, settings, {"epochs": 5}, scheduled, replace, {"GOOGLE_CLOUD_PROJECT": "p1"})


def only(service: FakeService, method: str, end: str) -> Any:
    (asked,) = [item for item in service.asked if item.method == method and item.path.endswith(end)]
    return asked


def test_a_run_on_vertex(vertex: FakeService) -> None:
    assert on_vertex(vertex, False).name == JOB["name"]
    asked = only(vertex, "POST", f"{HOME}/pipelineJobs")
    assert asked.headers["authorization"].startswith("Bearer ")
    assert asked.body["displayName"] == "ag-news"
    assert asked.body["serviceAccount"] == "runner@p1.example"
    assert asked.body["runtimeConfig"]["gcsOutputDirectory"] == "gs://bucket/pipelines"
    assert asked.body["runtimeConfig"]["parameterValues"] == {"epochs": 5}
    assert asked.body["pipelineSpec"]["deploymentSpec"] == SPEC["deploymentSpec"]


def test_a_schedule_on_vertex(vertex: FakeService) -> None:
    assert on_vertex(vertex, True).name == SCHEDULE["name"]
    asked = only(vertex, "POST", f"{HOME}/schedules")
    # Five fields behind the zone.
    assert asked.body["cron"] == "TZ=Europe/Paris 30 3 * * 1,2,3,4,5"
    assert asked.body["maxConcurrentRunCount"] == "1"
    assert not asked.body.get("allowQueueing")
    assert asked.body["displayName"] == "ag-news"
    request = asked.body["createPipelineJobRequest"]
    assert request["parent"] == HOME[1:]
    assert request["pipelineJob"]["serviceAccount"] == "runner@p1.example"
    assert request["pipelineJob"]["runtimeConfig"]["parameterValues"] == {"epochs": 5}


def test_a_second_schedule_on_vertex_is_refused(vertex: FakeService) -> None:
    for version in ("/v1", "/v1beta1"):
        vertex.answers["GET", f"{version}{HOME}/schedules"] = (200, {"schedules": [SCHEDULE]})
    with pytest.raises(BadInputError, match="there is a schedule ag-news already"):
        on_vertex(vertex, True)
    assert only(vertex, "GET", f"{HOME}/schedules").query["filter"] == ['display_name="ag-news"']
    assert not [item for item in vertex.asked if item.method == "POST" and item.path.endswith("schedules")]


def test_a_vertex_that_refuses_is_one_sentence(vertex: FakeService) -> None:
    for version in ("/v1", "/v1beta1"):
        vertex.answers["POST", f"{version}{HOME}/pipelineJobs"] = (403, {"error": {"message": "no"}})
    with pytest.raises(BadInputError, match="Vertex AI at p1, europe-west4 does not answer or refuses"):
        on_vertex(vertex, False)


def test_vertex_without_a_project() -> None:
    with pytest.raises(BadInputError, match="set GOOGLE_CLOUD_PROJECT"):
        submit_vertex(TEXT, config(), {}, False, False, {})


def test_arguments_have_the_type_of_their_parameter() -> None:
    given = ["data=/x=y", "epochs=4", "accuracy=0.5", "reuse=false"]
    assert read_arguments(config(), given) == {"data": "/x=y", "epochs": 4, "accuracy": 0.5, "reuse": False}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("epochs", "takes NAME=VALUE"),
        ("epochs=many", "must be int"),
        ("reuse=maybe", "must be bool"),
    ],
)
def test_an_argument_that_is_none(assignment: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_arguments(config(), [assignment])
