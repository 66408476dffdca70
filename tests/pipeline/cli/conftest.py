"""The command line in this process."""

import sys
from collections.abc import Callable

import pytest

from pipeline.cli import main as entry


@pytest.fixture
def newsdesk(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[object, str, str]]:
    """Calls a command; returns exit code, output and errors."""

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["newsdesk", *arguments])
        with pytest.raises(SystemExit) as done:
            entry.main()
        return (done.value.code or 0, *capfd.readouterr())

    return call
