"""The deployment files before the schemas that Compose, KServe and Grafana publish."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
import yaml
from deploy_tools import DEPLOY, PYTHON_PACKAGES, read_compose

pytestmark = pytest.mark.deploy


@pytest.fixture
def schemas(monkeypatch: pytest.MonkeyPatch) -> Path:
    assert PYTHON_PACKAGES.is_dir(), "there are no schemas: make test-deploy fetches them"
    monkeypatch.syspath_prepend(str(PYTHON_PACKAGES))
    return PYTHON_PACKAGES


@pytest.mark.usefixtures("schemas")
def test_the_compose_file_is_one() -> None:
    from compose_spec import PyCompose

    assert sorted(PyCompose.from_json(json.dumps(read_compose())).service_names()) == [
        "front",
        "grafana",
        "prometheus",
        "serving",
    ]
    assert PyCompose.from_json(json.dumps(read_compose(NEWSDESK_TARGETS="/srv/targets"))).get_service("prometheus")


@pytest.mark.usefixtures("schemas")
@pytest.mark.parametrize(
    ("name", "setting", "value", "words"),
    [
        ("serving", "comand", [], "comand"),
        ("serving", "ports", ["localhost:x:8501"], "ip address"),
        ("serving", "healthcheck", {"test": ["CMD", "true"], "interval": "soon"}, "soon"),
        ("front", "depends_on", {"serving": {"condition": "service_well"}}, "service_well"),
        ("front", "mem_limit", "much", "much"),
    ],
)
def test_a_wrong_compose_file_is_not(name: str, setting: str, value: Any, words: str) -> None:
    from compose_spec import PyCompose

    compose = read_compose()
    compose["services"][name][setting] = value
    with pytest.raises(ValueError, match=words):
        PyCompose.from_json(json.dumps(compose))


class KServe:
    """KServe's v1beta1 types, read from its Python package without importing it: that would need its dependencies."""

    def __init__(self, package: Path):
        """Reads what is generated from KServe's OpenAPI."""
        self._types: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        for path in (package / "kserve" / "models").glob("v1beta1_*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    found = {
                        item.targets[0].id: ast.literal_eval(item.value)
                        for item in node.body
                        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name)
                    }
                    if "openapi_types" in found:
                        self._types[node.name] = (found["openapi_types"], found["attribute_map"])

    def faults(self, value: Any, kind: str, place: str) -> Iterator[str]:
        """Yields each unknown field and each value of another type."""
        plain = {"str": str, "int": int, "bool": bool, "float": float}
        if kind == "object":
            return
        if kind in plain:
            if type(value) is not plain[kind]:
                yield f"{place} is not {kind}: {value!r}"
        elif match := re.fullmatch(r"list\[(.+)\]", kind):
            if not isinstance(value, list):
                yield f"{place} is not a list"
                return
            for number, item in enumerate(value):
                yield from self.faults(item, match[1], f"{place}[{number}]")
        elif match := re.fullmatch(r"dict[\[(]str, (.+)[\])]", kind):
            for key, item in value.items():
                yield from self.faults(item, match[1], f"{place}.{key}")
        else:
            yield from self._faults_of_fields(value, kind, place)

    def _faults_of_fields(self, value: Any, kind: str, place: str) -> Iterator[str]:
        if kind in self._types:
            types, names = self._types[kind]
        else:
            model = getattr(kubernetes.client, kind)
            types, names = model.openapi_types, model.attribute_map
        if not isinstance(value, dict):
            yield f"{place} is not {kind}"
            return
        fields = {names[attribute]: types[attribute] for attribute in types}
        for key, item in value.items():
            if key not in fields:
                yield f"{kind} has no {key}: {place}"
            else:
                yield from self.faults(item, fields[key], f"{place}.{key}")


def test_the_inference_service_is_one(schemas: Path) -> None:
    service = yaml.safe_load((DEPLOY / "inference-service.yaml").read_text(encoding="utf-8"))
    assert list(KServe(schemas).faults(service, "V1beta1InferenceService", "")) == []


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "canaryTraffic", 10),
        ((), "canaryTrafficPercent", "10"),
        (("model",), "runtime_version", "2.20.0"),
        (("model",), "args", "--enable_batching"),
        (("model", "modelFormat"), "kind", "tensorflow"),
        (("model", "readinessProbe"), "periodSecond", 1),
        (("model", "readinessProbe", "exec"), "command", "true"),
        (("model", "livenessProbe", "tcpSocket"), "address", "x"),
        (("model", "resources"), "limit", {}),
    ],
)
def test_a_wrong_inference_service_is_not(schemas: Path, place: tuple[str, ...], key: str, value: Any) -> None:
    service = yaml.safe_load((DEPLOY / "inference-service.yaml").read_text(encoding="utf-8"))
    at = service["spec"]["predictor"]
    for step in place:
        at = at[step]
    at[key] = value
    (fault, *_) = KServe(schemas).faults(service, "V1beta1InferenceService", "")
    assert key in fault


def lost(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Yields what Grafana's types did not keep."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                yield f"{place}.{key}"
            else:
                yield from lost(value, theirs[key], f"{place}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(*pair, f"{place}[{number}]")
    elif ours != theirs:
        yield f"{place}: {ours!r} became {theirs!r}"


def through_grafana(dashboard: dict[str, Any]) -> Any:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


@pytest.mark.usefixtures("schemas")
def test_the_dashboard_is_one() -> None:
    dashboard = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    assert list(lost(dashboard, through_grafana(dashboard))) == []
    dashboard["panels"][1]["gridPosition"] = {"x": 0}
    dashboard["refreshing"] = "30s"
    assert sorted(lost(dashboard, through_grafana(dashboard))) == [".panels[1].gridPosition", ".refreshing"]
