"""Rows per second of batch inference, from file to file, for one or more pushed models.

    .venv/bin/python benchmarks/batch.py --input FILE --model-dir BASE [--model-dir BASE]... [--rounds 3]

Each round is a whole ``newsdesk batch`` in a process of its own, as a user calls it: start, reading, the model and
writing. The models take turns, so that what else the machine does falls on all of them. Printed are the median and the
range over rounds: seconds of the process, rows per second of it, and rows per second of the computation alone, that is
without start of Python and TensorFlow, load of the model and the reading beforehand. Threads are TensorFlow's defaults.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

# A model is computed shard by shard; what a shard takes is what is left once everything is loaded.
_TIMED = """
import atexit, json, os, sys, time
from serving.batch import classify as batch
classify_shard, spent = batch.classify_shard, [0.0, 0]
def timed(shard, job, model):
    started = time.perf_counter()
    done = classify_shard(shard, job, model)
    spent[0] += time.perf_counter() - started
    spent[1] += done["rows"]
    return done
batch.classify_shard = timed
atexit.register(lambda: open(os.environ["NEWSDESK_BENCHMARK"], "w").write(json.dumps(spent)))
from pipeline.cli.main import main
main()
"""


@dataclass
class Times:
    """Of one model: seconds of the process, rows, and rows per second of the computation, one each per round."""

    seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)


def run(source: Path, base: Path, shard_rows: int, times: Times) -> None:
    """Runs ``newsdesk batch`` once and adds what it took."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        suffix = "".join(source.suffixes[-1:])
        arguments = [source, place / f"out{suffix}", "--model-dir", base, "--shard-rows", shard_rows, "--json"]
        command = [sys.executable, "-c", _TIMED, "batch", *map(str, arguments)]
        started = time.perf_counter()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "NEWSDESK_BENCHMARK": str(place / "spent.json")},
        )
        times.seconds.append(time.perf_counter() - started)
        seconds, rows = json.loads((place / "spent.json").read_text())
        times.rows.append(json.loads(done.stdout)["rows"])
        times.computed.append(rows / seconds)


def shown(values: list[float], digits: int = 0) -> str:
    """Returns the median and the range."""
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main() -> None:
    """Times every model and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, required=True, help="CSV, JSON lines or Parquet, not gzipped")
    parser.add_argument("--model-dir", type=Path, action="append", required=True, dest="bases", metavar="BASE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=10_000)
    arguments = parser.parse_args()
    found = {base: Times() for base in arguments.bases}
    for _ in range(arguments.rounds):
        for base, times in found.items():
            run(arguments.input, base, arguments.shard_rows, times)
    print("| model | rows | seconds | rows/s, whole | rows/s, computation |\n|---|---|---|---|---|")
    for base, times in found.items():
        whole = [rows / seconds for rows, seconds in zip(times.rows, times.seconds, strict=True)]
        cells = (str(base), f"{times.rows[0]:,}", shown(times.seconds, 1), shown(whole), shown(times.computed))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
