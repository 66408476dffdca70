"""Workspaces that earlier versions made: this one serves them, tells of them, retrains and collects them."""

import html
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from old_workspace import NAMES, OldWorkspace, unpack
from running_server import wait_until
from server_process import Served, serving_process
from span_world import rows, write_span
from tiny_settings import to_options

pytestmark = pytest.mark.e2e

COLUMNS = ("accuracy", "macro_f1", "log_loss", "calibration_error")


@pytest.fixture(params=NAMES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldWorkspace:
    """A copy for each test: version 3 is the champion, version 1 the one before."""
    return unpack(request.param, tmp_path)


def test_it_serves_and_rolls_back(old: OldWorkspace, newsdesk: Callable[..., Any]) -> None:
    assert [(row["version"], row["aliases"]) for row in versions(old, newsdesk)] == [
        ("3", ["champion"]),
        ("2", []),
        ("1", ["previous"]),
    ]
    shown = said(newsdesk("models", "show", "1", "--json", "--workspace", old.root))
    assert (shown["present"], shown["directory"]) == (True, str(old.root / "serving" / "ag_news" / "1"))
    assert shown["run"] == old.made["runs"]["first"]["run_id"]
    assert shown["metrics"]["accuracy"] > 0.9
    assert shown["tags"]["verdict.ModelGate"] == "passed"
    assert answers(old, newsdesk) == as_made(old, "3")

    with serving_process(old.root / "serving") as served:
        assert asked(served, old, "labels/champion") == as_made(old, "3")
        assert asked(served, old, "versions/1") == as_made(old, "1")
        back = newsdesk("models", "rollback", "--workspace", old.root)
        assert (back.code, back.out) == (0, "version 1 of ag_news is champion again, after 3\n"), back.err
        wait_until(lambda: asked(served, old, "labels/champion") == as_made(old, "1"), 15)
    assert answers(old, newsdesk) == as_made(old, "1")


def test_its_runs_are_told_and_compared(old: OldWorkspace, newsdesk: Callable[..., Any]) -> None:
    first, rejected = old.made["runs"]["first"], old.made["runs"]["rejected"]
    for run, told in ((first["run_id"], ["pushed", "version 1"]), (rejected["run_id"], rejected["reasons"])):
        done = newsdesk("report", run, "--workspace", old.root)
        assert done.code == 0, done.err
        page = read_page(old, run)
        assert [words for words in (run, *told) if words not in page] == []

    # The first pair from answers that were kept, the second from models and rows: the same model, once pushed.
    pushed = {name: old.made["runs"]["third"]["metrics"][name] for name in COLUMNS}
    for run, flags, expected in (
        ("second", [], {name: old.made["compared"]["metrics"][name]["a"]["value"] for name in COLUMNS}),
        ("third", ["--no-cache"], pushed),
    ):
        pair = (old.made["runs"][run]["run_id"], rejected["run_id"])
        compared = said(newsdesk("compare", "--json", *flags, "--workspace", old.root, *pair))
        assert compared["rows"] == old.made["compared"]["rows"]
        found = {side: {name: compared["metrics"][name][side]["value"] for name in COLUMNS} for side in ("a", "b")}
        assert found["a"] == pytest.approx(expected, abs=1e-4)
        assert found["b"] == pytest.approx(pushed, abs=1e-4)

    assert said(newsdesk("doctor", "--json", "--workspace", old.root)) | {"checks": None} == {
        "ready": True,
        "checks": None,
        "abandoned": [],
        "apart": [],
    }


def test_its_rejected_job_says_the_same_again(old: OldWorkspace, newsdesk: Callable[..., Any]) -> None:
    """The last step of a job draws everything from what the nodes left, verdicts among it."""
    rejected = old.made["runs"]["rejected"]
    again = newsdesk("node", "finish", "--job", old.made["job"], "--workspace", old.root)
    assert again.code == 0, again.err
    result = json.loads(again.out.splitlines()[-1])
    assert {**result, "seconds": None} == {**rejected, "seconds": None}
    page = read_page(old, rejected["run_id"])
    assert [reason for reason in rejected["reasons"] if reason not in page] == []


def test_it_retrains_and_is_collected(old: OldWorkspace, newsdesk: Callable[..., Any]) -> None:
    data = ["--data", old.spans, "--workspace", old.root, *to_options(old.made["settings"])]
    # The days it knows are no news, and the one that it refused is left out.
    quiet = said(newsdesk("retrain", "--json", "--dry-run", *data))
    assert quiet["status"] == "no"
    assert "span-20260303" in " ".join(quiet["decision"]["evidence"]["left_out"])

    write_span(old.spans / "span-20260304", rows(200, 4000), rows(60, 4500), now=datetime.now(UTC))
    with serving_process(old.root / "serving") as served:
        done = newsdesk("retrain", "--json", *data)
        pushed = said(done)
        assert (pushed["status"], pushed["model_version"]) == ("pushed", "4"), done.err
        champion = "/v1/models/ag_news/labels/champion/metadata"
        wait_until(lambda: served.get(champion).json()["model_spec"]["version"] == "4", 60)
    evidence = pushed["decision"]["evidence"]
    assert evidence["window"] == ["span-20260302", "span-20260304"]
    assert evidence["champion"]["serving_version"] == "3"
    assert f"begins with the weights of {old.root}/serving/ag_news/3" in done.err
    page = read_page(old, pushed["run_id"])
    assert "version 3 of ag_news serves" in page
    assert re.search("the candidate is (not worse|better) than version 3", page)
    assert "of the champion's 360" in page, "the DataGate did not find the champion's profile"

    gone = said(newsdesk("models", "gc", "--keep", "1", "--json", "--workspace", old.root))
    assert [item["name"] for item in gone["items"] if item["kind"] == "version"] == ["1", "2"]
    old_runs = {old.made["runs"][name]["run_id"] for name in ("first", "second", "rejected")}
    assert {item["name"] for item in gone["items"] if item["kind"] == "run"} == old_runs
    assert gone["kept"] == {"3": "previous", "4": "among the newest 1, champion"}
    assert not (old.root / "serving" / "ag_news" / "1").exists()
    assert versions(old, newsdesk)[-1]["present"] is False
    with serving_process(old.root / "serving") as served:
        assert asked(served, old, "versions/3") == as_made(old, "3")
        newest = answers(old, newsdesk)
        assert asked(served, old, "labels/champion") == [(label, pytest.approx(share)) for label, share in newest]
    said(newsdesk("models", "rollback", "--json", "--workspace", old.root))
    assert answers(old, newsdesk) == as_made(old, "3")


def said(done: Any, code: int = 0) -> Any:
    assert done.code == code, done.err
    return done.result


def versions(old: OldWorkspace, newsdesk: Callable[..., Any]) -> Any:
    return said(newsdesk("models", "list", "--json", "--workspace", old.root))


def answers(old: OldWorkspace, newsdesk: Callable[..., Any]) -> Any:
    """What the champion says of the texts that were asked when the workspace was made."""
    found = said(newsdesk("predict", "--json", "--workspace", old.root, *texts(old)))
    return [(row["label"], row["probability"]) for row in found]


def asked(served: Served, old: OldWorkspace, which: str) -> Any:
    """What a server says of them."""
    reply = served.predict(*texts(old), path=f"/v1/models/ag_news/{which}:predict")
    assert reply.status_code == 200, reply.text
    return [(row["label"], max(row["probabilities"])) for row in reply.json()["predictions"]]


def as_made(old: OldWorkspace, version: str) -> Any:
    """What a version said of them then; another TensorFlow may differ in the last digits."""
    return [(row["label"], pytest.approx(row["probability"], abs=1e-4)) for row in old.made["answers"][version]]


def read_page(old: OldWorkspace, run: str) -> str:
    """The words of a report; the kept workspaces have none until it is drawn."""
    page = (old.root / "reports" / run / "index.html").read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def texts(old: OldWorkspace) -> list[str]:
    return [row["text"] for row in old.made["answers"]["1"]]
