"""What a container step costs beside its work: from the start of ``newsdesk node ID`` to the call of its executor.

    .venv/bin/python benchmarks/step_start.py [--preset sample] [--rounds 3]

Runs every step of a run as an orchestrator would, each a process of its own, one after the other, on the bundled
sample. An execution is entered into the metadata store just before its executor is called; the time between that and
the start of the process is what is printed, and the seconds of the whole process beside it.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from pipeline.runners.steps import Steps
from pipeline.workspace.place import Workspace

JOB = "measured"


def step(name: str, workspace: Path, *more: str) -> tuple[float, float]:
    """Runs one step; returns when it started, in seconds since 1970, and how long it took."""
    started = time.time()
    command = [sys.executable, "-m", "pipeline.cli.main", "node", name, "--job", JOB, "--workspace", str(workspace)]
    subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return started, time.time() - started


def execution_times(metadata: Path) -> dict[int, float]:
    """Returns when each execution was entered, in seconds since 1970, by its id."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(metadata)
    return {item.id: item.create_time_since_epoch / 1000 for item in MetadataStore(config).get_executions()}


def run(preset: str) -> dict[str, tuple[float, float]]:
    """Runs all steps on an empty workspace; returns seconds to the executor and in all, by node."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        step("begin", place, "--preset", preset)
        steps = Steps(place, JOB)
        processes = {node: step(node, place) for node in steps.decided().nodes}
        step("finish", place)
        entered = execution_times(Workspace(place).metadata)
        found = {}
        for node, (started, seconds) in processes.items():
            ended = steps.ended(node)
            if ended is None or ended.node.execution_id is None:
                raise RuntimeError(f"step {node} left no execution behind")
            found[node] = entered[ended.node.execution_id] - started, seconds
        return found


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="sample")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds = [run(arguments.preset) for _ in range(arguments.rounds)]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, preset {arguments.preset}\n")
    print("| step | to its executor, s | in all, s |\n|---|---|---|")
    for node in rounds[0]:
        before, whole = ([found[node][place] for found in rounds] for place in (0, 1))
        print(f"| {node} | {median(before):.1f} ({min(before):.1f} to {max(before):.1f}) | {median(whole):.1f} |")
    longest = [max(before for before, _ in found.values()) for found in rounds]
    print(f"\nlongest to its executor: {min(longest):.1f} to {max(longest):.1f} s")


if __name__ == "__main__":
    main()
