"""Beam's job server with a real Flink or Spark inside its own JVM, from the jars that ``make test-engines`` fetches.

    .venv/bin/python tests/support/job_server.py flink

starts one, prints ``HOST:PORT`` and serves until it is told to stop.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

JARS = Path(__file__).parents[2] / ".engines"
_DRIVERS = {
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
}
_OPTIONS = {"flink": ["--flink-master", "[local]"], "spark": ["--spark-master-url", "local[2]"]}
# What both engines reach into, and Java 17 keeps shut.
_OPENED = ("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.time",
           "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs",
           "sun.security.action", "sun.util.calendar")  # fmt: skip
_JVM = {
    "flink": [],
    "spark": ["-Dspark.driver.host=127.0.0.1", "-Dspark.driver.bindAddress=127.0.0.1", "-Dspark.ui.enabled=false"],
}
_STARTED = re.compile(r"JobService started on \S*?:(\d+)")
_SECONDS = 60


@contextmanager
def job_server(engine: str, directory: Path, jars: Path = JARS, heap: str = "1g") -> Iterator[str]:
    """Starts a job server on a free port of this machine and yields ``localhost:PORT``.

    Args:
        engine: ``flink`` or ``spark``.
        directory: For its log, ``ENGINE.log``, and for what jobs stage.
        jars: A directory for each engine.
        heap: Of the JVM.

    Raises:
        RuntimeError: The jars are missing, or it does not start; with the end of its log.
    """
    if not any((jars / engine).glob("*.jar")):
        raise RuntimeError(f"there are no jars in {jars / engine}: make test-engines fetches them")
    log = directory / f"{engine}.log"
    command = [
        "java", f"-Xmx{heap}", *_JVM[engine],
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        "-cp", f"{jars / engine}/*", _DRIVERS[engine], *_OPTIONS[engine],
        "--job-host", "localhost", "--job-port", "0", "--artifact-port", "0", "--expansion-port", "0",
        "--artifacts-dir", str(directory / f"{engine}-staged"),
    ]  # fmt: skip
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield f"localhost:{_port(process, log)}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    ends = time.monotonic() + _SECONDS
    while time.monotonic() < ends and process.poll() is None:
        if found := _STARTED.search(log.read_text(errors="replace")):
            return int(found[1])
        time.sleep(0.1)
    raise RuntimeError(f"the job server did not start: {log.read_text(errors='replace')[-2000:]}")


def main() -> None:
    """Serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=_DRIVERS)
    parser.add_argument("--heap", default="1g")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    with (
        tempfile.TemporaryDirectory() as directory,
        job_server(arguments.engine, Path(directory), heap=arguments.heap) as place,
    ):
        print(place, flush=True)  # noqa: T201
        signal.pause()


if __name__ == "__main__":
    main()
