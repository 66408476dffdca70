"""A tab of headless Chromium, and the page for people in it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Tab, open_chromium
from page_tab import Page
from page_world import CARD, MemoryRepository, TokenDoor, make_app, make_version, serve


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with open_chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def make_page(tab: Tab, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Serves ``make_page(*labels of each version, **settings)`` until the test ends."""
    servers: list[Any] = []

    def make(*versions: str, card: str = CARD, **settings: Any) -> Page:
        repository = MemoryRepository(
            *(make_version(tmp_path, number, *label.split(), card=card) for number, label in enumerate(versions, 1))
        )
        door = TokenDoor(make_app(repository, **settings))
        servers.append(serve(door))
        return Page(tab, servers[-1].__enter__(), repository, door)

    yield make
    tab.call("Page.navigate", url="about:blank")
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def page(make_page: Callable[..., Page]) -> Page:
    made = make_page("champion")
    made.open()
    return made
