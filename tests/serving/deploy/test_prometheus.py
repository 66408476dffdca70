"""The configuration, the rules and the dashboard's questions before the real promtool and Prometheus."""

import json
from pathlib import Path

import pytest
import yaml
from deploy_tools import DEPLOY, find_program, run

pytestmark = pytest.mark.deploy

CASES = [Path(__file__).with_name(name) for name in ("alerts_cases.yaml", "alerts_slow_cases.yaml")]


def test_prometheus_reads_its_configuration_and_its_rules() -> None:
    promtool = find_program("promtool")
    assert "12 rules found" in run(promtool, "check", "rules", DEPLOY / "alerts.yaml")
    assert "is valid prometheus config" in run(promtool, "check", "config", DEPLOY / "prometheus.yaml")


def test_alerts_fire_on_their_fault_and_on_nothing_else() -> None:
    said = run(find_program("promtool"), "test", "rules", *(path.name for path in CASES), cwd=Path(__file__).parent)
    assert said.count("SUCCESS") == len(CASES)


def test_prometheus_can_answer_what_the_dashboard_asks(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))
    questions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = [
        {
            "record": f"question:{number}",
            "expr": question.replace("$__rate_interval", "5m").replace("$model", "ag_news"),
        }
        for number, question in enumerate(questions)
    ]
    path = tmp_path / "questions.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    assert f"{len(questions)} rules found" in run(find_program("promtool"), "check", "rules", path)
    assert len(questions) >= 15
