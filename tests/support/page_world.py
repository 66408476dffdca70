"""A tiny world for the page: a model of twelve words, a repository in memory, and a server of its own on loopback."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Code, RequestError
from serving.http.app import tell_refusal
from serving.model.loaded import Answers
from serving.page.routes import page_routes
from serving.repository.versions import Version

CLASSES = ["World", "Sports", "Business", "Sci/Tech"]
EVIDENCE = {
    "treaty": (0, 2.5), "ministers": (0, 1.5), "border": (0, 1.2),
    "striker": (1, 3.0), "goal": (1, 2.0), "final": (1, 1.0), "cup": (1, 0.8),
    "shares": (2, 2.2), "profit": (2, 1.7), "investors": (2, 1.1),
    "software": (3, 2.0), "telescope": (3, 2.4),
}  # fmt: skip
"""Word to the class that it speaks for and by how much, in nats."""
WORD_LIMIT = 60
CARD = """---
license: apache-2.0
model-index:
- name: ag_news
  results:
  - task:
      type: text-classification
    dataset:
      type: newsdesk-sample
      name: newsdesk's bundled sample
      split: test
    metrics:
    - type: accuracy
      value: 0.921316
      name: Accuracy
    - type: f1
      value: 0.921154
      name: Macro-F1
      args:
        average: macro
    - type: log_loss
      value: 0.236324
      name: Log loss
    - type: expected_calibration_error
      value: 0.018929
      name: Expected calibration error, 15 bins
---

# ag\\_news
"""


class WordModel:
    """Adds up the evidence of the words it knows; whatever it is asked is kept in ``asked``."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.classes = list(CLASSES)
        self.asked: list[list[bytes]] = []
        self.signatures: dict[str, Any] = {}
        self.before: Callable[[], None] = lambda: None

    def answer(self, texts: Sequence[bytes]) -> Answers:
        self.before()
        self.asked.append(list(texts))
        logits = np.zeros((len(texts), len(self.classes)), np.float64)
        for row, text in zip(logits, texts, strict=True):
            for word in text.decode().lower().replace(",", " ").split():
                label_id, weight = EVIDENCE.get(word, (0, 0.0))
                row[label_id % len(row)] += weight
        shares = np.exp(logits)
        probabilities = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
        label_ids = probabilities.argmax(axis=1).astype(np.int64)
        return Answers([self.classes[label_id] for label_id in label_ids], label_ids, probabilities)

    def answer_examples(self, examples: Sequence[bytes]) -> Answers:
        raise AssertionError("the page asks for texts")


class MemoryRepository:
    """Versions that are there from the start. ``refusal`` is raised instead of an answer."""

    def __init__(self, *versions: Version):
        self._versions = list(versions)
        self.refusal: RequestError | None = None
        self.in_use = 0

    def models(self) -> list[str]:
        return sorted({version.model for version in self._versions}) or ["ag_news"]

    def versions(self) -> list[Version]:
        return list(self._versions)

    @contextmanager
    def use(self, model: str, version: int | None = None, label: str | None = None) -> Iterator[Version]:
        if self.refusal:
            raise self.refusal
        found = [
            held
            for held in self._versions
            if held.model == model and version in (None, held.number) and (label is None or label in held.labels)
        ]
        if not found:
            code = Code.NOT_FOUND if label is None else Code.INVALID_ARGUMENT
            raise RequestError(code, f"Servable not found for request: {label or version or 'Latest'}({model})")
        self.in_use += 1
        try:
            yield next((held for held in found if "champion" in held.labels), found[0])
        finally:
            self.in_use -= 1


def make_version(
    directory: Path, number: int, *labels: str, model: str = "ag_news", card: str | None = CARD
) -> Version:
    """Returns a version with a card beside it, or none."""
    place = directory / model / str(number)
    place.mkdir(parents=True)
    if card is not None:
        (place / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return Version(model, number, WordModel(place), frozenset(labels))


class TokenDoor:
    """Refuses ``/explain`` without the token, as the server does; ``token`` None lets everyone in."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self.token: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", [])).get(b"authorization", b"").decode()
        if self.token and scope["path"] == "/explain" and given != f"Bearer {self.token}":
            await PlainTextResponse('{"error": "a bearer token is needed"}', 401)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def make_app(repository: MemoryRepository, **settings: Any) -> Starlette:
    """Returns an application of nothing but the page."""
    settings = {"most_words": WORD_LIMIT, "text_characters": 10_000, "seconds": 30.0} | settings
    routes = page_routes(repository, **settings)  # type: ignore[arg-type]
    return Starlette(routes=routes, exception_handlers={RequestError: tell_refusal})


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    """Serves on a free port of loopback and yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the page's server did not stop within 30 s"
