"""``newsdesk predict --url`` prints what ``newsdesk predict`` does."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from serving.client import rest as module
from serving.errors import Code, RequestError
from serving.model import loaded as models
from serving.model.loaded import Prediction

CLASSES = ("World", "Sports")
URL = "http://127.0.0.1:8501"


def predict(text: str) -> Prediction:
    return Prediction(text, "Sports", 1, 0.75, {"World": 0.25, "Sports": 0.75})


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replaces the client; set ``error`` to what it raises, read the rest for how it was made and asked."""
    state: dict[str, Any] = {"error": None}

    class Client:
        def __init__(self, url: str, token: str | None = None, classes: Sequence[str] | None = None):
            state.update(url=url, token=token, classes=classes)

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None:
            state["closed"] = True

        def predict(self, texts: list[str], model: str, label: str | None = None) -> list[Prediction]:
            state.update(texts=texts, model=model, label=label)
            if state["error"]:
                raise state["error"]
            return [predict(text) for text in texts]

    monkeypatch.setattr(module, "Client", Client)
    return state


@pytest.fixture
def pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A champion in the workspace that answers as the client does."""

    class Model:
        def __init__(self, directory: Path):
            assert directory.name == "3"

        def predict(self, texts: Sequence[str]) -> list[Prediction]:
            return [predict(text) for text in texts]

    monkeypatch.setattr(models, "LoadedModel", Model)
    base = tmp_path / "workspace" / "serving" / "ag_news"
    (base / "3").mkdir(parents=True)
    (base / "3" / "saved_model.pb").touch()
    (base / "aliases.json").write_text('{"champion": 3}')


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_the_output_is_the_same(
    newsdesk: Callable[..., tuple[object, str, str]],
    asked: dict[str, Any],
    pushed: None,
    tmp_path: Path,
    flags: list[str],
) -> None:
    (tmp_path / "texts.txt").write_text("Two\n\n" + "x" * 81 + "\n")
    arguments = ["predict", "A goal in Zürich", "--file", "texts.txt", *flags]
    here = newsdesk(*arguments)
    there = newsdesk(*arguments, "--url", URL)
    assert here == there
    assert here[0] == 0
    assert here[2] == ""
    assert len(json.loads(here[1]) if flags else here[1].splitlines()) == 4
    assert asked["texts"] == ["A goal in Zürich", "Two", "", "x" * 81]
    assert (asked["url"], asked["model"], asked["token"], asked["classes"], asked["label"]) == (
        URL,
        "ag_news",
        None,
        None,
        None,
    )
    assert asked["closed"] is True


def test_the_server_needs_no_workspace(
    newsdesk: Callable[..., tuple[object, str, str]], asked: dict[str, Any], tmp_path: Path
) -> None:
    assert newsdesk("predict", "A goal", "--url", URL, "--name", "other") == (0, "Sports     75.0%  A goal\n", "")
    assert asked["model"] == "other"
    assert list(tmp_path.iterdir()) == []


def test_token_names_and_label_go_to_the_client(
    newsdesk: Callable[..., tuple[object, str, str]],
    asked: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DESK_TOKEN", "sesame")
    (tmp_path / "classes.txt").write_text("World\nSports\n")
    options = ["--token-env", "DESK_TOKEN", "--classes", "classes.txt", "--label", "champion"]
    code, out, err = newsdesk("predict", "A goal", "--url", URL, *options)
    assert (code, err) == (0, "")
    assert (asked["token"], asked["classes"], asked["label"]) == ("sesame", ["World", "Sports"], "champion")
    assert "sesame" not in out


def test_a_token_is_not_taken_from_a_variable_that_was_not_named(
    newsdesk: Callable[..., tuple[object, str, str]], asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSDESK_TOKEN", "sesame")
    newsdesk("predict", "A goal", "--url", URL)
    assert asked["token"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token-env", "DESK_TOKEN"], ["--token-env", "--url"]),
        (["--classes", "classes.txt"], ["--classes", "--url"]),
        (["--label", "champion"], ["--label", "--url"]),
        (["--url", URL, "--token-env", "UNSET_VARIABLE"], ["UNSET_VARIABLE", "--token-env"]),
        (["--url", URL, "--classes", "missing.txt"], ["missing.txt"]),
        (["--url", URL, "--classes", "latin.txt"], ["latin.txt"]),
    ],
)
def test_bad_options_are_one_sentence(
    newsdesk: Callable[..., tuple[object, str, str]],
    asked: dict[str, Any],
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
) -> None:
    (tmp_path / "classes.txt").write_text("World\n")
    (tmp_path / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    code, out, err = newsdesk("predict", "A goal", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert all(word in err for word in words)
    assert "texts" not in asked


def test_no_text_asks_no_server(newsdesk: Callable[..., tuple[object, str, str]], asked: dict[str, Any]) -> None:
    code, _, err = newsdesk("predict", "--url", URL)
    assert (code, err) == (2, "newsdesk: nothing to classify: give texts, or --file with one a line\n")
    assert "texts" not in asked


def test_a_refusal_is_one_sentence(newsdesk: Callable[..., tuple[object, str, str]], asked: dict[str, Any]) -> None:
    asked["error"] = RequestError(Code.NOT_FOUND, "Servable not found for request: Latest(ag_news)")
    assert newsdesk("predict", "A goal", "--url", URL) == (
        2,
        "",
        "newsdesk: Servable not found for request: Latest(ag_news) (NOT_FOUND)\n",
    )


def test_an_address_that_is_none_is_one_sentence(newsdesk: Callable[..., tuple[object, str, str]]) -> None:
    code, out, err = newsdesk("predict", "A goal", "--url", "127.0.0.1:8501")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "http://127.0.0.1:8501" in err
