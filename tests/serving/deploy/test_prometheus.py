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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('up{job=~"newsdesk|tensorflow-serving"} == 0', "up == 0"),
        ('newsdesk_loaded_versions{label=~"champion|"}', 'newsdesk_loaded_versions{label=~"champion"}'),
        ('newsdesk_loaded_versions{label=~"champion|"}', "newsdesk_loaded_versions"),
        ('code=~"5.."}[5m]))', 'code=~"4..|5.."}[5m]))'),
        ("INVALID_ARGUMENT|", ""),
        ("(rate(newsdesk_request_seconds_bucket[5m]))) > 0.05", "(rate(newsdesk_request_seconds_bucket[5m]))) > 50"),
        ("> 50000", "> 0.05"),
        ("newsdesk_queue_rows > 512", "newsdesk_queue_rows >= 512"),
        ("or (newsdesk_load_failures_total unless newsdesk_load_failures_total offset 15m) > 0", ""),
        ('{label="challenger",code=~"5.."}', '{code=~"5.."}'),
        ("increase(newsdesk_predictions_total[1h])) > 1000", "increase(newsdesk_predictions_total[1h])) > 0"),
    ],
)
def test_a_wrong_alert_is_found(tmp_path: Path, old: str, new: str) -> None:
    rules = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
    assert rules.count(old) == 1
    (tmp_path / "alerts.yaml").write_text(rules.replace(old, new), encoding="utf-8")
    for path in CASES:
        cases = path.read_text(encoding="utf-8").replace("../../serving/deploy/", "")
        (tmp_path / path.name).write_text(cases, encoding="utf-8")
    with pytest.raises(AssertionError, match="FAILED"):
        run(find_program("promtool"), "test", "rules", *(tmp_path / path.name for path in CASES))


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
