"""What the page is told, and what it is refused."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from page_world import WORD_LIMIT, MemoryRepository, WordModel, make_app, make_version
from running_server import wait_until
from starlette.testclient import TestClient

from serving.config import make_config
from serving.errors import Code, RequestError
from serving.http.app import App
from serving.page.docs import read_openapi

PAGE = Path(__file__).parents[3] / "serving" / "page"
TEXT = "Striker scores a goal"


@pytest.fixture
def repository(tmp_path: Path) -> MemoryRepository:
    return MemoryRepository(
        make_version(tmp_path, 4, "champion"), make_version(tmp_path, 5, "challenger"), make_version(tmp_path, 3)
    )


@pytest.fixture
def client(repository: MemoryRepository) -> Iterator[TestClient]:
    with TestClient(make_app(repository)) as opened:
        yield opened


def ask(client: TestClient, **question: Any) -> Any:
    return client.post("/explain", json={"model": "ag_news", "text": TEXT} | question)


def test_the_page_and_its_files_are_served_with_a_strict_policy(client: TestClient) -> None:
    page = client.get("/")
    named = set(re.findall(r'(?:src|href)="([^"]+)"', page.text))
    assert named == {"page/icon.svg", "page/page.css", "page/page.js", "docs"}
    for path in ["/", *(f"/{name}" for name in named - {"docs"})]:
        reply = client.get(path)
        assert reply.status_code == 200
        assert reply.content == (PAGE / (path.rsplit("/")[-1] or "index.html")).read_bytes()
        policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["content-type"].split(";")[0] in (
            "text/html",
            "text/css",
            "text/javascript",
            "image/svg+xml",
        )


def test_the_page_holds_nothing_inline_and_nothing_from_elsewhere() -> None:
    for path in PAGE.glob("page.*"):
        assert not re.search(r"https?://|url\(|@import", path.read_text(encoding="utf-8")), path.name
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|\son[a-z]+=|https?://|<script(?![^>]*src=)", page)
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage", script)


def test_a_page_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/page/page.css").headers["etag"]
    again = client.get("/page/page.css", headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/page.js").headers["etag"] != tag


@pytest.mark.parametrize("path", ["/page/", "/page/docs.html", "/page/..%2fmodels.py", "/page/../models.py", "/page/x"])
def test_other_names_are_not_files(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_can_be_asked_is_listed_with_what_serves_first(client: TestClient) -> None:
    told = client.get("/explain").json()
    assert (told["explains"], told["word_limit"], told["text_characters"]) == (True, WORD_LIMIT, 10_000)
    (model,) = told["models"]
    assert (model["model"], model["problem"]) == ("ag_news", None)
    assert [(version["version"], version["labels"]) for version in model["versions"]] == [
        (4, ["champion"]),
        (5, ["challenger"]),
        (3, []),
    ]
    assert model["versions"][0]["figures"]["metrics"][0] == {"type": "accuracy", "name": "Accuracy", "value": 0.921316}


def test_a_model_that_is_not_there_yet_is_listed_with_the_reason() -> None:
    with TestClient(make_app(MemoryRepository())) as client:
        assert client.get("/explain").json()["models"] == [
            {"model": "ag_news", "versions": [], "problem": "Servable not found for request: Latest(ag_news)"}
        ]


def test_a_text_gets_class_probabilities_words_version_and_figures(
    client: TestClient, repository: MemoryRepository
) -> None:
    reply = ask(client)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    answer = reply.json()
    assert (answer["label"], answer["model"], answer["version"], answer["labels"]) == (
        "Sports",
        "ag_news",
        4,
        ["champion"],
    )
    assert list(answer["probabilities"]) == ["World", "Sports", "Business", "Sci/Tech"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert max(answer["probabilities"], key=answer["probabilities"].get) == "Sports"
    assert [(word["text"], word["start"], word["end"]) for word in answer["words"]] == [
        ("Striker", 0, 7),
        ("scores", 8, 14),
        ("a", 15, 16),
        ("goal", 17, 21),
    ]
    assert answer["words"][0]["weight"] > answer["words"][3]["weight"] > 1
    assert answer["words_total"] == 4
    assert answer["figures"]["dataset"] == {"name": "newsdesk's bundled sample", "split": "test"}
    assert repository.in_use == 0


def test_only_the_answered_class_is_explained(client: TestClient) -> None:
    answer = ask(client, text="treaty treaty striker").json()
    weights = {word["text"]: word["weight"] for word in answer["words"]}
    assert answer["label"] == "World"
    assert weights["striker"] < 0 < weights["treaty"]


@pytest.mark.parametrize(
    ("which", "number"), [({}, 4), ({"version": 3}, 3), ({"label": "challenger"}, 5), ({"version": None}, 4)]
)
def test_another_version_is_asked_by_number_or_label(client: TestClient, which: dict[str, Any], number: int) -> None:
    assert ask(client, **which).json()["version"] == number


def test_a_long_text_is_weighed_in_part_and_says_so(client: TestClient) -> None:
    answer = ask(client, text="goal " * (WORD_LIMIT + 10)).json()
    assert (len(answer["words"]), answer["words_total"]) == (WORD_LIMIT, WORD_LIMIT + 10)


def test_without_explanations_the_model_is_asked_once(repository: MemoryRepository) -> None:
    with TestClient(make_app(repository, most_words=0)) as client:
        told = client.get("/explain").json()
        assert (told["explains"], told["word_limit"]) == (False, 0)
        answer = ask(client).json()
    assert (answer["label"], answer["words"]) == ("Sports", None)
    assert repository.versions()[0].loaded.asked == [[TEXT.encode()]]


@pytest.mark.parametrize(("setting", "words"), [("0", None), ("1", 1), ("2", 2)])
def test_the_server_weighs_as_many_words_as_it_is_set_to(
    repository: MemoryRepository, setting: str, words: int | None
) -> None:
    app = App(repository, make_config({"model_dir": "nowhere", "explain_words": setting}))  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        told = client.get("/explain").json()
        answer = ask(client, text="goal " * 3).json()
    assert (told["explains"], told["word_limit"]) == (words is not None, words or 0)
    assert (None if answer["words"] is None else len(answer["words"])) == words
    assert [len(batch) for batch in repository.versions()[0].loaded.asked] == [1] + [1 + int(setting)] * bool(words)


def test_a_version_without_a_card_answers_and_says_what_is_missing(tmp_path: Path) -> None:
    with TestClient(make_app(MemoryRepository(make_version(tmp_path, 1, card=None)))) as client:
        answer = ask(client).json()
    assert (answer["label"], answer["figures"]) == ("Sports", None)
    assert answer["figures_problem"].startswith("version 1 has no MODEL_CARD.md")


def test_a_card_is_read_once(client: TestClient, repository: MemoryRepository) -> None:
    first = ask(client).json()
    (repository.versions()[0].loaded.directory / "MODEL_CARD.md").unlink()
    assert ask(client).json()["figures"] == first["figures"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b'{"model": "ag_news", "text": "\xff"}', "is no JSON"),
        (b'{"model": "ag_news", "text": "\\ud800"}', "is no JSON"),
        (b"[" * 5000, "is no JSON"),
        (b"[]", "the request: "),
        (b'{"model": "ag_news"}', "text: Field required"),
        (b'{"model": "ag_news", "text": 7}', "text: Input should be a valid string"),
        (b'{"model": "ag_news", "text": "goal", "words": 3}', "words: Extra inputs"),
        (b'{"model": "ag_news", "text": "goal", "version": "4"}', "version: Input should be a valid integer"),
        (b'{"model": "ag_news", "text": "goal", "version": 99999999999999999999}', "version: "),
        (b'{"model": "ag_news", "text": "goal", "version": -1}', "version: "),
        (b'{"model": "ag_news", "text": "goal", "version": 4, "label": "champion"}', "version and label"),
        (b'{"model": "ag_news", "text": " \\n "}', "the text is empty"),
        (b'{"model": "ag_news", "text": "' + b"a" * 10_001 + b'"}', "10,001 characters: 10,000 are allowed"),
    ],
)
def test_a_bad_request_is_told(client: TestClient, repository: MemoryRepository, body: bytes, said: str) -> None:
    reply = client.post("/explain", content=body)
    assert reply.status_code == 400
    assert said in reply.json()["error"]
    assert repository.versions()[0].loaded.asked == []


def test_the_longest_text_passes_however_it_is_written(client: TestClient) -> None:
    body = b'{"model": "ag_news", "text": "goal ' + b"\\ud83d\\ude80" * 9_995 + b'"}'
    assert client.post("/explain", content=body).json()["label"] == "Sports"


def test_a_long_body_is_read_no_further(repository: MemoryRepository) -> None:
    with TestClient(make_app(repository, text_characters=10)) as client:
        assert client.post("/explain", content=b"a" * 5_000).status_code == 413
        assert client.post("/explain", content=b"a" * 4_000).status_code == 400


@pytest.mark.parametrize(
    ("which", "status"),
    [({"model": "other"}, 404), ({"version": 9}, 404), ({"label": "canary"}, 400), ({"model": "../../etc"}, 404)],
)
def test_what_is_not_loaded_is_refused_as_elsewhere(client: TestClient, which: dict[str, Any], status: int) -> None:
    reply = ask(client, **which)
    assert reply.status_code == status
    assert reply.json()["error"].startswith("Servable not found")


def test_a_full_queue_says_when_to_come_back(client: TestClient, repository: MemoryRepository) -> None:
    repository.refusal = RequestError(Code.RESOURCE_EXHAUSTED, "the queue is full", retry_after=1.2)
    reply = ask(client)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")
    assert reply.json() == {"error": "the queue is full"}


def test_one_explanation_at_a_time_a_few_wait_and_the_rest_is_refused(
    client: TestClient, repository: MemoryRepository
) -> None:
    model: WordModel = repository.versions()[0].loaded
    leave, inside, most = threading.Event(), [], []

    def hold() -> None:
        inside.append(1)
        most.append(len(inside))
        assert leave.wait(120)
        inside.pop()

    model.before = hold
    replies: list[Any] = []
    asking = [threading.Thread(target=lambda: replies.append(ask(client))) for _ in range(12)]
    for thread in asking:
        thread.start()
    wait_until(lambda: len(replies) == 7)
    assert [reply.status_code for reply in replies] == [429] * 7
    assert replies[0].headers["retry-after"] == "2"
    assert replies[0].json() == {"error": "5 texts are being explained already: try again later"}
    leave.set()
    for thread in asking:
        thread.join()
    assert [reply.status_code for reply in replies[7:]] == [200] * 5
    assert max(most) == 1
    assert ask(client).status_code == 200


def test_an_explanation_that_takes_too_long_is_refused_and_stops(repository: MemoryRepository) -> None:
    model: WordModel = repository.versions()[0].loaded
    leave, inside, left = threading.Event(), [], []

    def hold() -> None:
        inside.append(1)
        opened = leave.wait(120)
        left.append(1)
        assert opened

    model.before = hold
    with TestClient(make_app(repository, seconds=0.2)) as client:
        # More than may wait at a time: who was refused has left the line.
        late = [ask(client, text="goal " * 40) for _ in range(8)]
        assert {reply.status_code for reply in late} == {504}
        assert late[0].json() == {"error": "no answer within 0.2 seconds: the server is overloaded"}
        assert "504" in json.loads(read_openapi())["paths"]["/explain"]["post"]["responses"]
        # A model that hangs holds one thread, and its version, however many ask.
        assert (len(inside), len(left), repository.in_use) == (1, 0, 1)
        leave.set()
        wait_until(lambda: repository.in_use == 0)
        assert [len(batch) for batch in model.asked] == [1]
        assert ask(client).status_code == 200


def test_an_explanation_ends_between_its_passes(repository: MemoryRepository) -> None:
    model: WordModel = repository.versions()[0].loaded
    leave, inside = threading.Event(), []

    def hold() -> None:
        inside.append(1)
        # The text itself is the first to be asked for.
        assert len(inside) == 1 or leave.wait(120)

    model.before = hold
    with TestClient(make_app(repository, seconds=2.0)) as client:
        assert ask(client, text="goal " * 60).status_code == 504
        leave.set()
        wait_until(lambda: repository.in_use == 0)
    # Of four passes one: that which was under way.
    assert len(model.asked) == 2


def test_the_server_waits_for_an_explanation_as_long_as_for_an_answer(repository: MemoryRepository) -> None:
    leave = threading.Event()
    repository.versions()[0].loaded.before = lambda: leave.wait(120)
    app = App(repository, make_config({"model_dir": "nowhere", "request_seconds": "0.3"}))  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        reply = ask(client)
        leave.set()
    assert (reply.status_code, reply.json()["error"]) == (504, "no answer within 0.3 seconds: the server is overloaded")
    assert app.metrics.rejected == {"deadline": 1}


def test_the_server_counts_what_its_limits_refuse_here_as_elsewhere(repository: MemoryRepository) -> None:
    config = make_config({"model_dir": "nowhere", "text_characters": "10"})
    app = App(repository, config)  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert ask(client, text="a" * 5000).status_code == 413
        assert app.metrics.rejected == {"body": 1}
        repository.refusal = RequestError(Code.RESOURCE_EXHAUSTED, "the queue is full", retry_after=1.2)
        assert ask(client, text="a goal").status_code == 429
        assert ask(client, text="").status_code == 400
    assert app.metrics.rejected == {"body": 1, "queue": 1}


def test_whoever_waits_is_answered_when_a_late_one_has_ended(repository: MemoryRepository) -> None:
    model: WordModel = repository.versions()[0].loaded
    begun, leave = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert leave.wait(120)

    model.before = hold
    with TestClient(make_app(repository, seconds=4.0)) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, client)
        assert begun.wait(60)
        time.sleep(2)
        second = pool.submit(ask, client)
        assert first.result(60).status_code == 504
        leave.set()
        assert second.result(60).status_code == 200
