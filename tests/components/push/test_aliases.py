"""The files that servers follow: each is whole at any time, and TensorFlow Serving can read them."""

import os
import threading
from pathlib import Path

import pytest
from model_server_config import ServedModel, parse_models_config

from components.errors import BadInputError
from components.push import aliases as module
from components.push.aliases import (
    ALIASES_FILE,
    MODELS_CONFIG,
    is_settled,
    read_aliases,
    render_models_config,
    write_aliases,
)

WRITES = 40


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    """A directory of two models, of which nothing has been promoted."""
    for name in ("ag_news", "other"):
        (tmp_path / "serving" / name).mkdir(parents=True)
    return tmp_path / "serving"


def config(serving: Path) -> dict[str, ServedModel]:
    """Returns what TensorFlow Serving is told."""
    return parse_models_config((serving / MODELS_CONFIG).read_text(encoding="utf-8"))


def test_what_was_written_is_read(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 10, "previous": 9})
    assert read_aliases(serving / "ag_news") == {"champion": 10, "previous": 9}
    write_aliases(serving, "ag_news", {"champion": 9})
    assert read_aliases(serving / "ag_news") == {"champion": 9}


def test_nothing_promoted_is_no_alias(serving: Path) -> None:
    assert read_aliases(serving / "ag_news") == {}
    assert read_aliases(serving / "no_such_model") == {}


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "3", '"champion"', '{"champion": "3"}', '{"champion": 3.0}', '{"champion": true}',
        '{"champion": 0}', '{"champion": -1}', '{"champion": null}', '{"champion": [3]}', '{"champion": 3} {}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_bad_input_that_says_what_to_do(serving: Path, text: str) -> None:
    path = serving / "ag_news" / ALIASES_FILE
    path.write_text(text)
    with pytest.raises(BadInputError, match="is damaged: newsdesk models promote writes it anew") as raised:
        read_aliases(serving / "ag_news")
    assert str(path) in str(raised.value)


def test_a_file_that_is_no_text_is_damaged(serving: Path) -> None:
    (serving / "ag_news" / ALIASES_FILE).write_bytes(b'{"champion": 3, "\xff": 1}')
    with pytest.raises(BadInputError, match="is damaged"):
        read_aliases(serving / "ag_news")


def test_champion_and_challenger_are_served_and_labelled(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2, "challenger": 10, "previous": 1})
    assert config(serving) == {
        "ag_news": ServedModel(
            str(serving / "ag_news"), "tensorflow", (1, 2, 10), {"champion": 2, "challenger": 10}
        )
    }  # fmt: skip


def test_the_previous_version_is_loaded_and_has_no_label(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2, "previous": 1})
    assert config(serving)["ag_news"].versions == (1, 2)
    assert config(serving)["ag_news"].labels == {"champion": 2}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"champion": 1}, {"champion": 2, "previous": 1}, ((1, 2), {"champion": 1})),
        ({"champion": 2, "previous": 1}, {"champion": 3, "previous": 2}, ((1, 2, 3), {"champion": 2})),
        (
            {"champion": 2, "challenger": 3},
            {"champion": 2, "challenger": 4},
            ((2, 3, 4), {"champion": 2, "challenger": 3}),
        ),
    ],
    ids=["second version", "third version", "challenger"],
)
def test_a_label_moves_after_servers_were_told_to_load_its_version(
    serving: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, int], after: dict[str, int], told: object
) -> None:
    write_aliases(serving, "ag_news", before)
    waits = []

    def wait(seconds: float) -> None:
        model = config(serving)["ag_news"]
        waits.append((seconds, (model.versions, model.labels)))

    monkeypatch.setattr(module, "_POLLED_SECONDS", 3.0)
    monkeypatch.setattr(module.time, "sleep", wait)
    write_aliases(serving, "ag_news", after)
    assert waits == [(3.0, told)]
    assert config(serving)["ag_news"].labels == {
        alias: after[alias] for alias in ("champion", "challenger") if alias in after
    }
    assert config(serving)["ag_news"].versions == tuple(sorted(after.values()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"champion": 1}),
        ({"champion": 1}, {"champion": 1, "challenger": 2}),
        ({"champion": 1, "challenger": 2}, {"champion": 2, "previous": 1}),
        ({"champion": 2, "previous": 1}, {"champion": 1}),
    ],
    ids=["first version", "first challenger", "challenger promoted", "rollback"],
)
def test_what_is_loaded_or_was_never_named_moves_at_once(
    serving: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, int], after: dict[str, int]
) -> None:
    write_aliases(serving, "ag_news", before)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("nothing to wait for"))
    write_aliases(serving, "ag_news", after)
    assert config(serving)["ag_news"].labels["champion"] == after["champion"]


def test_a_version_is_listed_once(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2, "challenger": 2})
    assert config(serving)["ag_news"].versions == (2,)


def test_every_model_is_in_the_file_whichever_moved(serving: Path) -> None:
    write_aliases(serving, "other", {"champion": 7})
    write_aliases(serving, "ag_news", {"champion": 1})
    assert {name: model.labels for name, model in config(serving).items()} == {
        "ag_news": {"champion": 1},
        "other": {"champion": 7},
    }
    write_aliases(serving, "ag_news", {"champion": 2, "previous": 1})
    assert config(serving)["ag_news"].labels == {"champion": 2}
    assert config(serving)["other"].labels == {"champion": 7}


@pytest.mark.parametrize("aliases", [{}, {"previous": 1}], ids=["none", "only previous"])
def test_a_model_that_nobody_serves_is_left_out(serving: Path, aliases: dict[str, int]) -> None:
    write_aliases(serving, "ag_news", aliases)
    assert config(serving) == {}


def test_the_highest_version_there_is_is_a_version(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 2**63 - 1})
    assert config(serving)["ag_news"].versions == (2**63 - 1,)


def test_a_damaged_models_config_is_not_settled(serving: Path) -> None:
    write_aliases(serving, "ag_news", {"champion": 1})
    assert is_settled(serving)
    (serving / MODELS_CONFIG).write_bytes(b"\xff\xfe no such thing")
    assert not is_settled(serving)


@pytest.mark.parametrize(
    "name", ['a "quoted" place', "back\\slash", "späße", "通貨", "🙂", "new\nline", "tab\t", "it's"]
)
def test_a_base_may_stand_anywhere(tmp_path: Path, name: str) -> None:
    serving = tmp_path / name
    (serving / "ag_news").mkdir(parents=True)
    write_aliases(serving, "ag_news", {"champion": 1})
    assert config(serving)["ag_news"].base_path == str(serving / "ag_news")


def test_rendering_writes_nothing(serving: Path) -> None:
    assert parse_models_config(render_models_config(serving)) == {}
    assert not (serving / MODELS_CONFIG).exists()


@pytest.mark.parametrize("fails", [0, 1], ids=["aliases", "models.config"])
def test_a_write_that_is_cut_short_leaves_what_was_and_no_litter(
    serving: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    write_aliases(serving, "ag_news", {"champion": 1})
    paths = (serving / "ag_news" / ALIASES_FILE, serving / MODELS_CONFIG)
    before = [path.read_bytes() for path in paths]
    calls: list[object] = []
    replace = os.replace

    def cut(source: Path, target: Path) -> None:
        if len(calls) == fails:
            raise OSError(28, "No space left on device")
        calls.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(OSError, match="No space left"):
        write_aliases(serving, "ag_news", {"champion": 2})
    assert [path.read_bytes() for path in paths[fails:]] == before[fails:]
    assert sorted(path.name for path in serving.rglob("*") if path.is_file()) == [ALIASES_FILE, MODELS_CONFIG]


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old(
    serving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("flushed"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append(Path(new).name), replace(old, new)))
    write_aliases(serving, "ag_news", {"champion": 1})
    assert events == ["flushed", ALIASES_FILE, "flushed", MODELS_CONFIG]


def test_a_reader_never_sees_half_a_file(serving: Path) -> None:
    few, many = {"champion": 1}, {"champion": 2, "challenger": 3, **{f"alias{number}": 4 for number in range(2_000)}}
    write_aliases(serving, "ag_news", few)
    stop, seen, wrong = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                found = read_aliases(serving / "ag_news")
                seen.add(len(found))
                if found not in (few, many):
                    wrong.append(f"aliases {len(found)}")
                if config(serving)["ag_news"].labels not in ({"champion": 1}, {"champion": 2, "challenger": 3}):
                    wrong.append("labels")
            except Exception as error:
                wrong.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(WRITES):
        write_aliases(serving, "ag_news", many if number % 2 else few)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert seen == {1, len(many)}


def test_the_files_can_be_read_by_a_server_that_is_another_user(serving: Path) -> None:
    mask = os.umask(0o077)
    try:
        write_aliases(serving, "ag_news", {"champion": 1})
    finally:
        os.umask(mask)
    for path in (serving / "ag_news" / ALIASES_FILE, serving / MODELS_CONFIG):
        assert path.stat().st_mode & 0o444 == 0o444, path
