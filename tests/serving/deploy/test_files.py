"""The deployment files agree with each other and with the server."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_files import FLAGS, LIMITS, SCRAPED, compose_flags, inference_service, kserve_flags, read
from deploy_tools import DEPLOY, interpolate, read_compose
from google.protobuf import text_format
from serving_settings import parse_batching, parse_monitoring

from serving.errors import Code
from serving.protocol.model_inputs import Limits

# TensorFlow Serving's settings


def test_a_batch_holds_what_one_request_may_bring() -> None:
    batching = parse_batching(read("batching.config"))
    assert batching.max_batch_size.value == LIMITS.instances
    assert batching.num_batch_threads.value >= 1
    assert batching.max_enqueued_batches.value >= 1
    assert batching.HasField("batch_timeout_micros")
    assert list(batching.allowed_batch_sizes) == []


def test_metrics_are_on_where_prometheus_looks() -> None:
    monitoring = parse_monitoring(read("monitoring.config"))
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == SCRAPED


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_batching, "max_batch_sizes { value: 2 }"),
        (parse_batching, "max_batch_size: 2"),
        (parse_monitoring, "prometheus { enable: true }"),
        (parse_monitoring, 'prometheus_config { enable: "yes" }'),
    ],
)
def test_settings_are_read_strictly(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(text_format.ParseError):
        parse(text)


@pytest.mark.parametrize("given", [compose_flags, kserve_flags], ids=["compose", "kserve"])
def test_tensorflow_serving_knows_its_flags_and_finds_its_files(given: Callable[[], dict[str, str]]) -> None:
    found = given()
    assert set(found) <= FLAGS
    assert found["enable_batching"] == "true"
    for flag in ("batching_parameters_file", "monitoring_config_file"):
        directory, _, name = found[flag].rpartition("/")
        assert directory == "/etc/newsdesk"
        assert (DEPLOY / name).is_file()


def test_moves_of_aliases_are_followed_within_five_seconds() -> None:
    found = compose_flags()
    assert 0 < int(found["model_config_file_poll_wait_seconds"]) <= 4
    assert found["allow_version_labels_for_unavailable_models"] == "true"
    assert found["model_config_file"] == "/srv/serving/models.config"


# Compose


def test_models_are_mounted_where_models_config_says_they_are_and_cannot_be_changed() -> None:
    mounts = read_compose()["services"]["serving"]["volumes"]
    assert "/srv/serving:/srv/serving:ro" in mounts
    assert all(mount.endswith(":ro") for mount in mounts)


def test_a_compose_file_without_models_is_refused() -> None:
    with pytest.raises(KeyError, match="NEWSDESK_SERVING is not set: absolute path"):
        interpolate(read("compose.yaml"), {})


def test_images_are_pinned() -> None:
    images = {name: service["image"] for name, service in read_compose()["services"].items()}
    assert images.pop("serving") == "tensorflow/serving:2.20.0"
    assert len(images) == 3
    for image in images.values():
        # Compose's format has a tag or a digest; which version it is stands beside it.
        assert re.search(rf"image: {re.escape(image)} # v?\d+\.\d+\.\d+", read("compose.yaml")), image
        assert re.fullmatch(r"[a-z/]+@sha256:[0-9a-f]{64}", image), image


def test_only_the_front_reaches_tensorflow_serving_and_only_this_machine_the_front() -> None:
    compose = read_compose()
    services = compose["services"]
    assert compose["networks"]["models"]["internal"] is True
    assert services["serving"]["networks"] == ["models"]
    assert "ports" not in services["serving"]
    for name in ("front", "prometheus", "grafana"):
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"]), name
    assert services["front"]["depends_on"]["serving"]["condition"] == "service_healthy"
    assert [name for name, service in services.items() if "profiles" not in service] == ["serving", "front"]


@pytest.mark.parametrize("name", ["serving", "front", "prometheus", "grafana"])
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = read_compose()["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


def test_what_is_mounted_is_there() -> None:
    sources = {
        mount.split(":")[0]
        for service in read_compose()["services"].values()
        for mount in service["volumes"]
        if mount.startswith("./")
    }
    assert len(sources) >= 8
    for source in sources:
        assert (DEPLOY / source).is_file(), source


def test_grafana_finds_its_source_and_its_dashboard() -> None:
    source = yaml.safe_load(read("grafana-datasources.yaml"))["datasources"][0]
    provider = yaml.safe_load(read("grafana-dashboards.yaml"))["providers"][0]
    dashboard = json.loads(read("dashboard.json"))
    variable = next(item for item in dashboard["templating"]["list"] if item["type"] == "datasource")
    assert variable["current"]["value"] == source["uid"]
    assert source["url"] == "http://prometheus:9090"
    mounts = read_compose()["services"]["grafana"]["volumes"]
    assert f"./dashboard.json:{provider['options']['path']}/dashboard.json:ro" in mounts


def test_prometheus_asks_each_server_where_it_answers() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(read("prometheus.yaml"))["scrape_configs"]}
    assert jobs["tensorflow-serving"]["metrics_path"] == SCRAPED
    assert jobs["tensorflow-serving"]["static_configs"] == [{"targets": ["serving:8501"]}]
    assert jobs["newsdesk"]["metrics_path"] == "/metrics"
    mounts = [mount.split(":")[1] for mount in read_compose()["services"]["prometheus"]["volumes"]]
    assert Path(jobs["newsdesk"]["file_sd_configs"][0]["files"][0]).parent == Path("/etc/prometheus/newsdesk")
    assert "/etc/prometheus/newsdesk" in mounts


# KServe


def test_the_inference_service_runs_this_tensorflow_serving_on_one_version() -> None:
    service = inference_service()
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert model["runtimeVersion"] == read_compose()["services"]["serving"]["image"].split(":")[1]
    assert model["modelFormat"] == {"name": "tensorflow", "version": "2"}
    assert 0 < predictor["canaryTrafficPercent"] < 100
    assert kserve_flags()["model_name"] == "ag_news"
    assert predictor["annotations"]["prometheus.kserve.io/path"] == SCRAPED
    mounted = {mount["name"]: mount["mountPath"] for mount in model["volumeMounts"]}
    assert mounted == {"settings": "/etc/newsdesk"}
    assert [volume["name"] for volume in predictor["volumes"]] == ["settings"]


def test_readiness_is_an_answer_of_the_model_and_life_is_not() -> None:
    model = inference_service()["spec"]["predictor"]["model"]
    for probe in ("startupProbe", "readinessProbe"):
        assert ":predict" in model[probe]["exec"]["command"][-1]
    assert set(model["livenessProbe"]) & {"exec", "httpGet", "tcpSocket", "grpc"} == {"tcpSocket"}
    assert model["startupProbe"]["periodSeconds"] * model["startupProbe"]["failureThreshold"] >= 120


# nginx: what it refuses, newsdesk serve refuses


def test_the_front_has_the_limits_of_newsdesk_serve() -> None:
    nginx = read("nginx.conf")
    front = read("front.js")
    assert f"client_max_body_size {LIMITS.body_bytes >> 20}m;" in nginx
    assert LIMITS.body_bytes == 1 << 20
    assert f"more than {LIMITS.body_bytes} bytes" in nginx
    assert f"client_header_timeout {LIMITS.header_seconds:.0f}s;" in nginx
    assert f"client_body_timeout {LIMITS.body_seconds:.0f}s;" in nginx
    assert f"send_timeout {LIMITS.write_seconds:.0f}s;" in nginx
    assert f"keepalive_timeout {LIMITS.idle_seconds:.0f}s;" in nginx
    constants = dict(re.findall(r"^const ([A-Z]+) = (\d+);$", front, re.MULTILINE))
    assert constants == {
        "TEXTS": str(LIMITS.instances),
        "CHARACTERS": str(LIMITS.text_characters),
        "DEPTH": str(LIMITS.json_depth),
        "CONTAINERS": str(Limits(instances=LIMITS.instances).containers),
    }


def test_the_front_refuses_with_the_codes_of_newsdesk_serve() -> None:
    replies = re.findall(r"return (\d+) '(\{\"error\".*\})';", read("nginx.conf"))
    assert {int(status) for status, _ in replies} == {
        Code.INVALID_ARGUMENT.status,
        Code.NOT_FOUND.status,
        408,
        Code.TOO_LARGE.status,
        Code.RESOURCE_EXHAUSTED.status,
        Code.INTERNAL.status,
        Code.UNAVAILABLE.status,
        Code.DEADLINE_EXCEEDED.status,
    }
    for _, body in replies:
        assert set(json.loads(body)) == {"error"}


def test_the_readme_speaks_of_every_file() -> None:
    readme = read("README.md")
    assert [path.name for path in sorted(DEPLOY.iterdir()) if f"`{path.name}`" not in readme] == []
