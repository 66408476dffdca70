"""The files of serving/deploy agree with each other, with the server and with what is measured; nothing is started."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_tools import DEPLOY, interpolate, read_compose
from google.protobuf import text_format
from nginx_front import free_port, run_fake_serving
from serving_settings import parse_batching, parse_monitoring

from serving.config import ServerConfig
from serving.errors import Code
from serving.metrics import Metrics

LIMITS = ServerConfig(model_dir=Path("serving"))
SCRAPED = "/monitoring/prometheus/metrics"
# Every flag that is used here, from tensorflow_serving/model_servers/main.cc: an unknown one stops the server.
FLAGS = {
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "load_retry_interval_micros",
    "max_num_load_retries",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "monitoring_config_file",
    "num_load_threads",
    "rest_api_timeout_in_ms",
}
# What is no metric in an expression.
PROMQL = {"abs", "and", "count", "histogram_quantile", "increase", "or", "rate", "sum", "unless"}
NOT_OURS = {"up", "ALERTS"}


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def inference_service() -> dict[str, Any]:
    return yaml.safe_load(read("inference-service.yaml"))


def flags(arguments: list[str]) -> dict[str, str]:
    pairs = [argument.removeprefix("--").partition("=") for argument in arguments]
    assert len({name for name, _, _ in pairs}) == len(pairs), "a flag stands twice"
    return {name: value for name, _, value in pairs}


def compose_flags() -> dict[str, str]:
    return flags(read_compose()["services"]["serving"]["command"])


def kserve_flags() -> dict[str, str]:
    return flags(inference_service()["spec"]["predictor"]["model"]["args"])


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


# Probes: the very commands, in the shell that the image has


def compose_probe(port: int) -> list[str]:
    kind, *command = read_compose()["services"]["serving"]["healthcheck"]["test"]
    assert kind == "CMD"
    return [part.replace("/127.0.0.1/8501", f"/127.0.0.1/{port}") for part in command]


def kserve_probe(port: int) -> list[str]:
    command = inference_service()["spec"]["predictor"]["model"]["readinessProbe"]["exec"]["command"]
    return [part.replace("/127.0.0.1/8080", f"/127.0.0.1/{port}") for part in command]


PROBES = pytest.mark.parametrize(
    ("probe", "path"),
    [
        (compose_probe, "/v1/models/ag_news/labels/champion:predict"),
        (kserve_probe, "/v1/models/ag_news:predict"),
    ],
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


# Names of metrics


def measured() -> set[str]:
    """Returns every name that a server writes, by making one of each."""
    metrics = Metrics()
    metrics.series("ag_news", 1, "champion").count(Code.OK, 0.01)
    metrics.series("ag_news", 1, "champion").predict(["World"])
    metrics.ran_batch("ag_news", 1, 0.01)
    metrics.count_load("ag_news", 1.0)
    metrics.count_load_failure("ag_news")
    metrics.rejected["queue"] += 1
    metrics.loaded = lambda: [("ag_news", 1, ["champion"])]
    text = (metrics.render() + metrics.render_tensorflow()).decode()
    return {re.split(r"[{ ]", line, maxsplit=1)[0] for line in text.splitlines() if not line.startswith("#")}


def named(expression: str) -> set[str]:
    """Returns the metrics of a PromQL expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\boffset\s+\w+", "", bare)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - PROMQL


def test_the_names_of_an_expression_are_found() -> None:
    assert named('sum by (a, le) (rate(newsdesk_x_total{b="c{}",d=~"e|"}[5m] offset 1h)) > 0.5') == {"newsdesk_x_total"}
    assert named("1 - :tensorflow:serving:y / on (job) group_left () up") == {":tensorflow:serving:y", "up"}


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(read("alerts.yaml"))["groups"] for rule in group["rules"]]


def panel_expressions() -> Iterator[tuple[str, str]]:
    for panel in json.loads(read("dashboard.json"))["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_alerts_are_about_what_is_measured() -> None:
    known = measured() | NOT_OURS
    unknown = {rule["alert"]: named(rule["expr"]) - known for rule in alert_rules()}
    assert {alert: names for alert, names in unknown.items() if names} == {}


def test_the_dashboard_shows_what_is_measured() -> None:
    known = measured()
    unknown = [(title, named(expression) - known) for title, expression in panel_expressions()]
    assert [item for item in unknown if item[1]] == []


def test_the_dashboard_shows_every_metric_of_ours() -> None:
    shown = set().union(*(named(expression) for _, expression in panel_expressions()))
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in measured()}
    assert families - {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown} == set()


def test_an_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_each_alert_is_tested() -> None:
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("alerts_*.yaml")]
    checks = [check for file in files for case in file["tests"] for check in case["alert_rule_test"]]
    fired = {check["alertname"] for check in checks if check["exp_alerts"]}
    assert fired == {rule["alert"] for rule in alert_rules()}


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(read("dashboard.json"))["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_readme_speaks_of_every_file() -> None:
    readme = read("README.md")
    assert [path.name for path in sorted(DEPLOY.iterdir()) if f"`{path.name}`" not in readme] == []
