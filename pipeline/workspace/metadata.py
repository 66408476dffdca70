"""Reaches ML Metadata by URI, and outlasts a server that goes away for a while."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import BadInputError, check_address
from pipeline.workspace.stores import PASSWORD, SQLITE, Server, find_server

if TYPE_CHECKING:
    from ml_metadata import metadata_store
    from ml_metadata.proto import metadata_store_pb2

_CONNECT_SECONDS = 3.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
# Two processes that make the tables of one empty database at once get in each other's way.
_FIRST_CONTACT_SECONDS = 3.0
_FRESH_CONNECTIONS = 5
_REASON_CHARACTERS = 200
_log = logging.getLogger("newsdesk.metadata")


class MetadataAwayError(BadInputError):
    """The server that holds the metadata has not come back in time."""


def connection(uri: str, password: str = "") -> "metadata_store_pb2.ConnectionConfig":
    """Returns how to reach a metadata store.

    Args:
        uri: ``sqlite:///PATH``, four slashes for an absolute path, or ``mysql://USER@HOST[:PORT]/DATABASE``.
        password: Of a server.

    Raises:
        BadInputError: It is none.
    """
    from ml_metadata.proto import metadata_store_pb2

    config = metadata_store_pb2.ConnectionConfig()
    server = _find_server(uri)
    if server is None:
        path = uri.removeprefix(SQLITE)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        config.sqlite.filename_uri = path
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return config
    mysql = config.mysql
    mysql.host, mysql.port, mysql.user, mysql.database = server.host, server.port, server.user, server.database
    if password:
        mysql.password = password
    return config


class MetadataPlace:
    """One metadata store, as one process reaches it.

    Attributes:
        uri: Without a password.
        server: None for a file.
    """

    def __init__(self, uri: str, environment: Mapping[str, str] = os.environ, patience_seconds: float = 0.0):
        """Opens nothing yet.

        Args:
            uri: As ``connection`` takes it.
            environment: Holds the password, in ``NEWSDESK_METADATA_PASSWORD``.
            patience_seconds: How long to wait for a server that has gone away.

        Raises:
            BadInputError: The URI is none.
        """
        self.uri = uri
        self.server = _find_server(uri)
        self._password = environment.get(PASSWORD, "")
        self._patience = patience_seconds

    @property
    def connection(self) -> "metadata_store_pb2.ConnectionConfig":
        """How to reach it, with the password; the directory of a file is made."""
        return connection(self.uri, self._password)

    def exists(self) -> bool:
        """Returns whether there is a store; a server is taken to have one."""
        return self.server is not None or Path(self.uri.removeprefix(SQLITE)).exists()

    def check(self) -> None:
        """Opens a server's store once, before anything relies on it.

        Raises:
            BadInputError: It does not open; the sentence says whether the server answers at all.
        """
        if self.server:
            patience, self._patience = self._patience, _FIRST_CONTACT_SECONDS
            try:
                self.open()
            except MetadataAwayError as error:
                raise BadInputError(f"the metadata store {self.uri} {_why(self.server)}") from error
            self._patience = patience

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Guards work on the store.

        Raises:
            BadInputError: It does not open, or is damaged, full or not to be written.
        """
        from ml_metadata import errors

        try:
            self.check()
            yield
        except (errors.StatusError, RuntimeError) as error:
            why = " ".join(str(error).split())[:_REASON_CHARACTERS]
            raise BadInputError(
                f"the metadata store {self.uri.removeprefix(SQLITE)} cannot be read or written ({why}): free space if "
                "it is full, or restore it"
            ) from error

    def open(self) -> "metadata_store.MetadataStore | PatientStore":
        """Returns the store; a server's is one that outlasts an outage.

        Raises:
            MetadataAwayError: The server does not answer, or refuses, for longer than the patience lasts. From then
                on every call says so at once.
        """
        from ml_metadata import metadata_store

        return PatientStore(self) if self.server else metadata_store.MetadataStore(self.connection)

    def connect(self) -> "metadata_store.MetadataStore":
        """Returns a new connection to a server, as soon as it lets itself be had; raises as ``open`` does."""
        from ml_metadata import metadata_store

        end = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return metadata_store.MetadataStore(self.connection)
            # What the library raises where it cannot connect, whatever the reason.
            except RuntimeError as error:
                if time.monotonic() + pause > end:
                    waited, self._patience = self._patience, 0.0
                    raise MetadataAwayError(
                        f"the metadata store {self.uri} has gone away and not come back in {waited:.0f} seconds "
                        "(stores.patience_seconds): start it and run again, which goes on from what is done"
                    ) from error
            if pause == _FIRST_PAUSE:
                _log.warning("the metadata store %s does not answer: waiting for it", self.uri)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


class PatientStore:
    """A server's store whose calls are repeated on a new connection when theirs was lost.

    A lost connection does not heal: the second call on it ends the process with a segmentation fault. A call whose
    answer was lost after the server had done it is done twice, which leaves at most an execution behind that nothing
    refers to; ``newsdesk doctor`` names it.
    """

    def __init__(self, place: MetadataPlace):
        self._place = place
        self._store = place.connect()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            from ml_metadata import errors

            for _ in range(_FRESH_CONNECTIONS):
                try:
                    return getattr(self._store, name)(*arguments, **named)
                except (errors.InternalError, errors.UnavailableError) as error:
                    lost = error
                self._store = self._place.connect()
            raise lost

        return call


def _find_server(uri: str) -> Server | None:
    check_address("the address of the metadata store", uri, f"set {PASSWORD}")
    try:
        return find_server(uri)
    except ValueError as error:
        raise BadInputError(f"{error}: name one that all steps share") from error


def _why(server: Server) -> str:
    try:
        socket.create_connection((server.host, server.port), _CONNECT_SECONDS).close()
    except OSError as error:
        return f"does not answer ({error.strerror or error}): start it, or name another with stores.metadata"
    return (
        f"answers but refuses user {server.user}, its password ({PASSWORD}) or database {server.database}: mend "
        "the one that is wrong"
    )
