"""Alerts and dashboard are about what is measured."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from deploy_files import NOT_OURS, PROMQL, read

from serving.errors import Code
from serving.http.metrics import Metrics


def measured() -> set[str]:
    """Returns every name that a server writes, by making one of each."""
    metrics = Metrics()
    metrics.series("ag_news", 1, "champion").count(Code.OK, 0.01)
    metrics.series("ag_news", 1, "champion").predict(["World"])
    metrics.ran_batch("ag_news", 1, 0.01)
    metrics.load_seconds["ag_news"].add(1.0)
    metrics.load_failures["ag_news"] += 1
    metrics.rejected["queue"] += 1
    metrics.versions = lambda: [("ag_news", 1, ["champion"])]
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
