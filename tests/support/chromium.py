"""Headless Chromium over its debugging pipe: the DevTools protocol as NUL-ended JSON, without a library or a port."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--force-color-profile=srgb",
    # Root, as in a container, has no sandbox; the pages are our own.
    "--no-sandbox",
)
_SECONDS = 120.0
_FREE_DESCRIPTOR = 10


class ProtocolError(Exception):
    """Chromium refused a command, or a script in the page failed."""


class Tab:
    """One page and what it did.

    Attributes:
        requests: Addresses that the page asked for.
        complaints: What the browser logged: errors, warnings, violations of the page's policy.
    """

    def __init__(self, send: Any, session: str):
        self._send = send
        self._session = session
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.loaded = False
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Sends one command and returns its result."""
        return self._send(method, parameters, self._session)

    def open(self, page: Path, width: int = 1280, height: int = 900, **media: str) -> None:
        """Opens a file in a window of that size; ``media`` is ``media="print"`` or ``scheme="dark"``."""
        self.resize(width, height)
        self.emulate(**media)
        self.requests.clear()
        self.complaints.clear()
        self.loaded = False
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + _SECONDS
        while not self.loaded and time.monotonic() < deadline:
            self.run("1")
        assert self.loaded, f"{page} was not loaded within {_SECONDS:.0f} s"

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def emulate(self, media: str = "", scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> Any:
        """Returns what an expression gives; the page's own policy does not hold for it."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ProtocolError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Presses ``Tab`` or ``Enter``."""
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def pdf(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))
        return path

    def notice(self, method: str, parameters: dict[str, Any]) -> None:
        """Takes down what happened."""
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(parameters)[:500])
        elif method == "Page.loadEventFired":
            self.loaded = True


@contextmanager
def open_chromium(profile: Path) -> Iterator[Tab]:
    """Starts Chromium and yields its one tab.

    Args:
        profile: Empty directory for its settings and its log.

    Raises:
        AssertionError: It is not installed or does not answer.
    """
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    assert program, "there is no Chromium: make test-browser installs it"
    profile.mkdir(parents=True, exist_ok=True)
    commands, ours = _pipe()
    theirs, answers = _pipe()
    log = os.open(profile / "chromium.log", os.O_WRONLY | os.O_CREAT, 0o600)
    process = os.posix_spawn(
        program,
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, commands, 3),
            (os.POSIX_SPAWN_DUP2, answers, 4),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ],
    )
    for descriptor in (commands, answers, log):
        os.close(descriptor)
    pipe = _Pipe(ours, theirs)
    try:
        target = pipe.send("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        attached = pipe.send("Target.attachToTarget", {"targetId": target, "flatten": True}, None)
        tab = Tab(pipe.send, attached["sessionId"])
        pipe.listener = tab.notice
        yield tab
    finally:
        os.close(ours)
        os.close(theirs)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


class _Pipe:
    """Sends commands one at a time; events on the way go to ``listener``."""

    def __init__(self, write: int, read: int):
        self._write, self._read, self._held, self._last = write, read, b"", 0
        self.listener: Any = lambda method, parameters: None

    def send(self, method: str, parameters: dict[str, Any], session: str | None) -> Any:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._receive(method)
            if "method" in answer:
                self.listener(answer["method"], answer["params"])
            elif answer.get("id") == self._last:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, method: str) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], _SECONDS)
            assert ready, f"Chromium did not answer {method} within {_SECONDS:.0f} s"
            block = os.read(self._read, 1 << 16)
            assert block, f"Chromium ended during {method}"
            self._held += block
        message, _, self._held = self._held.partition(b"\0")
        return json.loads(message)


def _pipe() -> tuple[int, int]:
    """Returns the ends of a pipe, numbered so that neither is a descriptor that Chromium is given."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _FREE_DESCRIPTOR) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
