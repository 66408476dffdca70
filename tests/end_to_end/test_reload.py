"""A server follows the registry: what is promoted and rolled back is served within seconds, and a challenger is not."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from running_server import wait_until
from server_process import Served, serving_process

pytestmark = pytest.mark.e2e

TEXT = "the coach and the striker"
# Five seconds are promised, which benchmarks/serving_speed.py measures; a busy machine takes longer.
MOST_SECONDS = 60


class Watch:
    """Asks without a pause which version is the champion, and whether anything but answers comes back."""

    def __init__(self, served: Served):
        self.moves: list[tuple[int, float]] = []
        self.refusals: list[str] = []
        self._served = served
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def last(self) -> int | None:
        return self.moves[-1][0] if self.moves else None

    def _look(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(0.02):
                url = f"{self._served.url}/v1/models/ag_news/labels/champion"
                told = session.get(f"{url}/metadata", timeout=30)
                answer = session.post(f"{url}:predict", json={"instances": [TEXT]}, timeout=30)
                self.refusals += [each.text for each in (told, answer) if each.status_code != 200]
                version = int(told.json()["model_spec"]["version"])
                if not self.moves or self.moves[-1][0] != version:
                    self.moves.append((version, time.time()))


def test_what_is_promoted_and_rolled_back_is_served_within_seconds(
    served: Any, run_tiny: Callable[..., Any], newsdesk: Callable[..., Any]
) -> None:
    workspace, data = served.workspace, served.data
    aliases = workspace / "serving" / "ag_news" / "aliases.json"

    def models(*arguments: str) -> Any:
        return newsdesk("models", *arguments, "--workspace", workspace)

    def aliased() -> dict[str, int]:
        return json.loads(aliases.read_text())

    found = {}
    with serving_process(workspace / "serving") as server:
        with Watch(server) as watch:

            def followed(step: str, version: int) -> None:
                wait_until(lambda: watch.last() == version, MOST_SECONDS)
                found[step] = watch.moves[-1][1] - aliases.stat().st_mtime

            # A challenger serves nobody until it is promoted.
            done = run_tiny(data, workspace, settings={"push.as": "challenger", "transformer.seed": "2"})
            assert done.code == 0, done.err
            assert done.result["model_version"] == "2"
            assert aliased() == {"champion": 1, "challenger": 2}
            assert (workspace / "serving" / "ag_news" / "2" / "MODEL_CARD.md").is_file()

            promoted = models("promote", "2")
            assert (promoted.code, promoted.out) == (0, "version 2 of ag_news is now champion, after version 1\n")
            assert aliased() == {"champion": 2, "previous": 1}
            followed("a promotion", 2)
            # Without a label, and by the number, the same model answers.
            first, *others = (shares(server, path) for path in ("", "/labels/champion", "/versions/2", "/versions/1"))
            assert [np.allclose(each, first, atol=1e-6) for each in others] == [True, True, False]
            listed = json.loads(models("list", "--json").out)
            assert [(row["version"], row["aliases"]) for row in listed] == [("2", ["champion"]), ("1", ["previous"])]

            back = models("rollback")
            assert (back.code, back.out) == (0, "version 1 of ag_news is champion again, after 2\n")
            followed("a rollback", 1)
        assert [version for version, _ in watch.moves] == [1, 2, 1]
        assert watch.refusals == []
        print("".join(f"\n{name} is served after {seconds:.2f} s" for name, seconds in found.items()))  # noqa: T201

    assert models("rollback").code == 0
    assert aliased() == {"champion": 1}
    # The same model is not pushed a second time over the head of whoever rolled it back.
    again = run_tiny(data, workspace, settings={"transformer.seed": "2"})
    assert again.code == 3, again.err
    assert again.result["reasons"] == [
        "this is the model of version 2, which was rolled back: newsdesk models promote 2 takes it back"
    ]
    assert aliased() == {"champion": 1}


def shares(server: Served, path: str) -> list[float]:
    """Returns the probabilities that a model answers with; their last digits depend on what else is in the batch."""
    return server.predict(TEXT, path=f"/v1/models/ag_news{path}:predict").json()["predictions"][0]["probabilities"]
