"""PostgreSQL and MariaDB as Debian ships them, each in a directory of its own, on a port of the loopback address."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

ENGINES = Path(os.environ.get("NEWSDESK_ENGINES", Path(__file__).parents[2] / ".engines"))
PYTHON_PACKAGES = ENGINES / "python"
USER, PASSWORD = "newsdesk", "a-Passw0rd:of/tests"
_START_SECONDS = 60
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/llvm-14/lib")


class DatabaseServer(ABC):
    """One server; its data outlive it.

    Attributes:
        port: The same after a restart.
    """

    def __init__(self) -> None:
        """Makes an empty database directory, which ``remove`` deletes."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # Not below pytest's: that is closed to the user whom the server runs as.
        self.root = Path(tempfile.mkdtemp(prefix="newsdesk-db-"))
        # Neither server runs as root.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self.root, self._user)
        self._process: subprocess.Popen | None = None
        self.initialize()

    @abstractmethod
    def initialize(self) -> None:
        """Makes the empty database."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Returns what starts the server in the foreground."""

    def start(self) -> None:
        """Returns when it takes connections."""
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                env=_environment(),
                user=self._user,
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError((self.root / "log").read_text(errors="replace"))
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it without warning, as a power cut would; ended already, nothing happens."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Ends it and deletes its data."""
        self.kill()
        shutil.rmtree(self.root)

    def answers(self) -> bool:
        """Returns whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def run(self, *command: str | Path, given: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Runs one of its programs to the end, as the user that it runs as."""
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            cwd=self.root,
            env=_environment() | dict(environment or {}),
            user=self._user,
            timeout=_START_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout


class PostgreSQL(DatabaseServer):
    """PostgreSQL, which asks every connection for the password."""

    def create(self, database: str) -> str:
        """Makes an empty database and returns its address for SQLAlchemy, without the password."""
        environment = {"PGPASSWORD": PASSWORD}
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, database]
        self.run(self._programs / "createdb", *options, environment=environment)
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def initialize(self) -> None:
        self._programs = _find("usr/lib/postgresql/*/bin/initdb").parent
        secret = self.root / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        options = ["--username", USER, "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        self.run(self._programs / "initdb", "--pgdata", self.root / "data", *options, "--no-locale", "--no-sync")

    def command(self) -> Sequence[str | Path]:
        options = [f"port={self.port}", f"unix_socket_directories={self.root}", "listen_addresses=127.0.0.1"]
        return [
            self._programs / "postgres",
            *("-D", self.root / "data"),
            *(part for option in options for part in ("-c", option)),
        ]

    def answers(self) -> bool:
        done = subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], env=_environment()
        )
        return done.returncode == 0


class MariaDB(DatabaseServer):
    """MariaDB, whose user logs in with mysql_native_password: ML Metadata's client knows nothing newer."""

    def uri(self, database: str) -> str:
        """Returns the address of a metadata store there."""
        return f"mysql://{USER}@127.0.0.1:{self.port}/{database}"

    def initialize(self) -> None:
        self._program = _find("usr/sbin/mariadbd")
        self._share = self._program.parents[1] / "share" / "mysql"
        system = [(self._share / f"{name}.sql").read_text() for name in ("mysql_system_tables",)]
        data = (self._share / "mysql_system_tables_data.sql").read_text()
        (self.root / "data").mkdir()
        if self._user:
            shutil.chown(self.root / "data", self._user)
        self._init = self.root / "init.sql"
        self._init.write_text(
            f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' "
            f"IDENTIFIED VIA mysql_native_password USING PASSWORD('{PASSWORD}');\n"
            f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n"
        )
        self._init.chmod(0o644)
        script = "CREATE DATABASE mysql;\nUSE mysql;\n" + "\n".join([*system, data])
        self.run(*self._base(), "--bootstrap", given=script)

    def command(self) -> Sequence[str | Path]:
        return [
            *self._base(),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.root / 'socket'}",
            f"--pid-file={self.root / 'pid'}",
            f"--init-file={self._init}",
        ]

    def _base(self) -> list[str | Path]:
        return [
            self._program,
            "--no-defaults",
            f"--basedir={self._program.parents[1]}",
            f"--lc-messages-dir={self._share}",
            f"--datadir={self.root / 'data'}",
        ]


def _find(pattern: str) -> Path:
    for root in (ENGINES / "root", Path("/")):
        if found := sorted(root.glob(pattern)):
            return found[-1]
    raise FileNotFoundError(f"{pattern} is neither in {ENGINES} nor on this machine: make test-engines unpacks it")


def _environment() -> dict[str, str]:
    libraries = [str(ENGINES / "root" / part) for part in _LIBRARIES if (ENGINES / "root" / part).is_dir()]
    return {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "LD_LIBRARY_PATH": ":".join(libraries)}
