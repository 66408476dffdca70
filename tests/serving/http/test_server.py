"""What a server settles before it listens."""

import resource

import pytest

from components.errors import BadInputError
from serving.config import make_config
from serving.http import server as module
from serving.http.server import allow_files, serve
from serving.limits import is_loopback

Limit = tuple[int, int]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[Limit]:
    """The limits on open files; the last one holds."""
    limits: list[Limit] = []
    monkeypatch.setattr(module.resource, "getrlimit", lambda kind: limits[-1])
    monkeypatch.setattr(module.resource, "setrlimit", lambda kind, to: limits.append(to))
    return limits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1024, 4096), (1280, 4096)),
        ((1024, resource.RLIM_INFINITY), (1280, resource.RLIM_INFINITY)),
        ((1279, 1280), (1280, 1280)),
        ((1280, 1280), (1280, 1280)),
        ((20_000, 20_000), (20_000, 20_000)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    ],
)
def test_files_are_allowed_for_connections_and_models(limit: list[Limit], before: Limit, after: Limit) -> None:
    limit.append(before)
    allow_files(1024)
    assert limit[-1] == after


def test_connections_that_the_system_has_no_files_for_are_refused(limit: list[Limit]) -> None:
    limit.append((1024, 1279))
    with pytest.raises(BadInputError, match=r"connections is 1024, .* 1280 open files, .* may have 1279"):
        allow_files(1024)
    assert len(limit) == 1


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.5", False),
        ("news.example", False),
    ],
)
def test_only_loopback_is_for_this_machine(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "token_env": "SESAME"}, False),
        ({"token_env": "SESAME"}, False),
    ],
)
def test_who_listens_to_all_and_asks_for_no_token_is_warned(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], warned: bool
) -> None:
    # It ends before it listens.
    def refuse(connections: int) -> None:
        raise BadInputError("no files")

    monkeypatch.setattr(module, "allow_files", refuse)
    with pytest.raises(BadInputError, match="no files"):
        serve(make_config({"model_dir": "nowhere", **settings}), {"SESAME": "open-sesame"})
    assert ("whoever reaches 0.0.0.0 may ask" in caplog.text) is warned
    assert "open-sesame" not in caplog.text
