"""Runs the application on uvicorn: the socket, the models, signals, and the end."""

import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import FrameType

import uvicorn

from components.errors import BadInputError
from serving.config import ServerConfig
from serving.http.access_log import AccessLog
from serving.http.app import App
from serving.http.connection import Connection
from serving.http.metrics import Metrics
from serving.limits import is_loopback
from serving.model.loaded import LoadedModel, warm_up
from serving.repository.repository import Repository

_LOGGER = logging.getLogger("newsdesk.serving")
_BACKLOG = 2048
_LOOK_SECONDS = 0.5
# The server's own, and those of a version that is being loaded.
_FILES_BESIDE = 256
# How long a thread may keep Python from another that asks for it. A request changes threads some six times: beside a
# thread that is at work in Python, such as one that loads a model, Python's own 5 ms would make that 30.
_SWITCH_SECONDS = 0.0005


def serve(
    config: ServerConfig,
    environment: Mapping[str, str] | None = None,
    ready: Callable[[str, Repository], None] = lambda url, repository: None,
) -> None:
    """Loads what is to be served and answers until SIGTERM or SIGINT, then finishes what is in flight.

    Args:
        config: How.
        environment: Where the token is; by default this process's own.
        ready: Told the URL, and what is loaded, as soon as requests are answered.

    Raises:
        BadInputError: There is no model or none that loads, the address cannot be had, or there is no token where one
            is to be asked for.
        OSError: The log cannot be written.
    """
    token = read_token(config, os.environ if environment is None else environment)
    if token is None and not is_loopback(config.host):
        _LOGGER.warning("whoever reaches %s may ask: token_env names the variable of a token to ask for", config.host)
    allow_files(config.connections)
    sys.setswitchinterval(_SWITCH_SECONDS)
    metrics = Metrics()
    with listen(config) as listening:
        log = AccessLog(config.access_log)
        repository = Repository(
            config.model_dir,
            partial(load_model, config),
            config.poll_seconds,
            partial(warm_up, most_rows=config.max_batch_rows),
            metrics,
        )
        try:
            load(repository, config)
            repository.start()
            url = url_of(listening)
            Server(App(repository, config, token, metrics, log), lambda: ready(url, repository)).run([listening])
        finally:
            repository.stop()
            log.close()


def read_token(config: ServerConfig, environment: Mapping[str, str]) -> str | None:
    """Returns the bearer token to ask for, None for none.

    Raises:
        BadInputError: The variable that ``token_env`` names is not set, or empty.
    """
    if config.token_env is None:
        return None
    token = environment.get(config.token_env, "").strip()
    if not token:
        raise BadInputError(f"there is no token in {config.token_env}, which token_env names: set it to one")
    return token


def allow_files(connections: int) -> None:
    """Lets this process open as many files as its connections and its models need.

    Without any left, it would follow the disk no more: idle clients could keep it from a rollback.

    Raises:
        BadInputError: The system does not let it.
    """
    needed = connections + _FILES_BESIDE
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if most != resource.RLIM_INFINITY and most < needed:
        raise BadInputError(
            f"connections is {connections}, which with the models takes {needed} open files, but this process may "
            f"have {most}: lower the setting or raise the limit (ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def listen(config: ServerConfig) -> socket.socket:
    """Returns a socket that has the address, and takes no connection yet: until there is a model, clients are refused.

    Raises:
        BadInputError: The address cannot be had.
    """
    host = config.host.strip("[]")
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, config.port))
    except OSError as error:
        listening.close()
        raise _cannot_listen(config, error) from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Returns the URL of the server behind a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(repository: Repository, config: ServerConfig) -> None:
    """Loads what is there, once.

    Raises:
        BadInputError: Nothing is, or nothing of it loads.
    """
    repository.poll()
    if repository.versions():
        return
    for name in repository.models():
        for status in repository.status(name):
            if status.message:
                raise BadInputError(f"no version of {name} can be served: {status.message}")
    raise BadInputError(f"there is no model in {config.model_dir}: newsdesk run makes one, or name another directory")


def load_model(config: ServerConfig, directory: Path) -> LoadedModel:
    """Returns a model with the threads of a configuration, and loads TensorFlow before the first; for one thread."""
    _prepare()
    return LoadedModel(directory, config.batches_at_a_time, config.op_threads)


@cache
def _prepare() -> None:
    import tensorflow_text  # noqa: F401  and with it TensorFlow

    # TensorFlow is a million objects that stay: a collection need not look at them, which takes a third of a second
    # for which nothing else runs. Before the first model, which must be let go of one day.
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn, which drains before it stops and looks after connections."""

    def __init__(self, app: App, ready: Callable[[], None]):
        """Takes what to serve, and whom to tell that it is served."""
        limits = app.config
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                loop="uvloop",
                ws="none",
                interface="asgi3",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=max(1, round(limits.idle_seconds)),
                timeout_graceful_shutdown=max(1, round(limits.drain_seconds)),
            )
        )
        self._app, self._tell_ready = app, ready
        self._stop_at: float | None = None
        self._look_at = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, and says so."""
        try:
            await super().startup(sockets)
        except OSError as error:
            # Two servers may hold a port until one of them listens.
            raise _cannot_listen(self._app.config, error) from error
        if self.started:
            self._tell_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends readiness, and some time later the rest; at once for Ctrl-C, or when told again."""
        waits = sig == signal.SIGTERM and self._stop_at is None
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self._app.draining = True
        self._stop_at = time.monotonic() + (self._app.config.drain_wait_seconds if waits else 0.0)

    async def on_tick(self, counter: int) -> bool:
        """Does what is to be done ten times a second."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._app.log.flush()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look(now)
        if self._stop_at is not None and now >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


def _cannot_listen(config: ServerConfig, error: OSError) -> BadInputError:
    return BadInputError(
        f"cannot listen on {config.host} port {config.port} ({error.strerror}): name another with --host and --port"
    )
