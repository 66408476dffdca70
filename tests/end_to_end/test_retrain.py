"""Retraining by the real command line: days that come, drift, a poisoned day, an outage, a kill, and a recovery."""

import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from span_world import Rows, rows, write_span
from tiny_settings import TINY, to_options

pytestmark = pytest.mark.e2e

SETTINGS = TINY | {
    "data.spans": "last 2",
    "data.eval_fraction": "0.1",
    "retrain.least_rows": "50",
    "retrain.new_spans": "none",
    "retrain.warm_start": "true",
}
AHEAD = {"ExampleGen", "ImportSchema", "StatisticsGen", "ExampleValidator", "Baseline", "Transform"}
KILLED_AFTER_AN_EPOCH = """
import os, signal
from trainers.checkpoints import Checkpoints
write = Checkpoints.write
def write_and_die(*arguments):
    write(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.write = write_and_die
"""


def drifted(day: int) -> Rows:
    """Three rows of five have a word that nobody used before."""
    return [
        (label, title, text.replace("again", "drought") if number // 4 % 5 < 3 else text)
        for number, (label, title, text) in enumerate(rows(200, day * 1000))
    ]


class Feed:
    """One feed and one workspace, a day after the other."""

    def __init__(self, root: Path, newsdesk: Callable[..., Any]):
        self.spans, self.workspace, self._newsdesk = root / "spans", root / "ws", newsdesk
        self.spans.mkdir()
        self.options = ["--data", str(self.spans), "--workspace", str(self.workspace), *to_options(SETTINGS)]

    def arrive(self, day: int, train: Rows | None = None) -> None:
        own = rows(200, day * 1000) if train is None else train
        write_span(self.spans / f"span-202603{day:02}", own, rows(60, day * 1000 + 500), now=datetime.now(UTC))

    def retrain(self, *flags: str, **environment: str) -> Any:
        return self._newsdesk("retrain", "--json", *self.options, *flags, **environment)

    def champion(self) -> int | None:
        aliases = self.workspace / "serving" / "ag_news" / "aliases.json"
        return json.loads(aliases.read_text())["champion"] if aliases.is_file() else None

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.workspace / "retrain" / "history.jsonl").read_text().splitlines()]


def test_a_feed_is_followed_through_good_days_and_bad_ones(tmp_path: Path, newsdesk: Callable[..., Any]) -> None:
    feed = Feed(tmp_path, newsdesk)
    feed.arrive(1)
    first = feed.retrain()
    assert first.code == 0, first.err
    assert (first.result["status"], feed.champion()) == ("pushed", 1)

    feed.arrive(2)
    quiet = feed.retrain()
    assert (quiet.code, quiet.result["status"], feed.champion()) == (0, "no", 1), quiet.err
    assert quiet.result["decision"]["evidence"]["newest"]["accuracy"]["share"] > 0.9

    # A class is gone: the day is refused, and what serves is untouched.
    feed.arrive(3, [row for row in rows(260, 3000) if row[0] != "2"])
    poisoned = feed.retrain()
    assert (poisoned.code, poisoned.result["status"], feed.champion()) == (3, "refused", 1), poisoned.err
    assert "Sports" in poisoned.err

    feed.arrive(4, drifted(4))
    away = feed.retrain(MLFLOW_TRACKING_URI="http://127.0.0.1:1", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (away.code, away.result["status"], feed.champion()) == (2, "failed", 1)
    assert "MLflow at http://127.0.0.1:1 does not answer" in away.err

    # Killed in the Trainer: nothing is stuck, and the next decision goes on where this one stopped, which began with
    # the champion's weights.
    killed = feed.retrain(prelude=KILLED_AFTER_AN_EPOCH)
    assert (killed.code, feed.champion()) == (-signal.SIGKILL, 1)
    drift = feed.retrain()
    assert drift.code == 0, drift.err
    assert (drift.result["status"], feed.champion()) == ("pushed", 2)
    assert "retrain.drift" in " ".join(vote["sentence"] for vote in drift.result["decision"]["votes"])
    assert drift.result["decision"]["evidence"]["window"] == ["span-20260302", "span-20260304"]
    assert "begins with" in drift.err
    assert "resumed after epoch 1" in drift.err
    assert [line["status"] for line in feed.history() if line["kind"] == "ended"] == [
        "pushed",
        "unread",
        "decided",
        "killed",
        "pushed",
    ]
    again = feed.retrain()
    assert (again.code, again.result["status"], feed.champion()) == (0, "no", 2), again.err
    decisions = (feed.workspace / "retrain" / "decisions.jsonl").read_text().splitlines()
    assert len(decisions) == 7
    # MLflow knows every one of them, those of the outage too.
    from components.registry.tracking import Store, find_runs

    store = Store(f"sqlite:///{feed.workspace}/mlflow.db", None)
    told = [find_runs(store, json.loads(line)["id"]) for line in decisions]
    assert [len(found) for found in told] == [1] * 7
    assert [found[0].tags["decision"] for found in told].count("retrain") == 3
    (dead,) = [line["run_id"] for line in feed.history() if line.get("status") == "killed"]
    assert [found.status for found in find_runs(store, dead)] == ["KILLED"]
    # What was done before the kill was not done again.
    (last,) = find_runs(store, [line["run_id"] for line in feed.history() if line.get("status") == "pushed"][-1])
    assert {node: last.tags[f"node.{node}"] for node in AHEAD} == dict.fromkeys(AHEAD, "cached")
