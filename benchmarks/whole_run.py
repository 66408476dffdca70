"""A whole run against the teaching notebook's own script, in one sitting on the same machine.

    .venv/bin/python benchmarks/whole_run.py --data DIR [--repeats 3]

Runs ``newsdesk run --preset ag-news`` on an empty workspace and ``benchmarks/seed_notebook.py`` in turn, then the
same newsdesk run once more from its cache. Prints seconds, the ratio pair by pair, test accuracy per seed, peak memory
and the table per node. Quote the ratio; seconds belong to the machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent


def newsdesk(data: Path, workspace: Path, seed: int) -> dict[str, Any]:
    """Returns the JSON of one run with the wall time of the whole process as ``wall``."""
    command = [sys.executable, "-m", "pipeline.cli.main", "run", "--preset", "ag-news", "--json"]
    command += ["--data", str(data), "--workspace", str(workspace), "--set", f"transformer.seed={seed}"]
    return _timed(command)


def notebook(data: Path, seed: int) -> dict[str, Any]:
    """Returns the JSON of the notebook's script with the wall time of the whole process as ``wall``."""
    return _timed([sys.executable, str(HERE / "seed_notebook.py"), "--data", str(data), "--seed", str(seed)])


def _timed(command: list[str]) -> dict[str, Any]:
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout) | {"wall": time.perf_counter() - started}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with train.csv and test.csv")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.0f} GiB\n")
    print("| seed | newsdesk run, s | its training, s | notebook, s | ratio | accuracy | notebook's | all cached, s |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, runs = [], []
    for seed in range(1, arguments.repeats + 1):
        with tempfile.TemporaryDirectory() as workspace:
            ours = newsdesk(arguments.data, Path(workspace), seed)
            cached = newsdesk(arguments.data, Path(workspace), seed)
        theirs = notebook(arguments.data, seed)
        training = next(node["seconds"] for node in ours["nodes"] if node["id"] == "Trainer")
        ratios.append(ours["wall"] / theirs["wall"])
        runs.append(ours)
        print(
            f"| {seed} | {ours['wall']:.0f} | {training:.0f} | {theirs['wall']:.0f} | {ratios[-1]:.2f} | "
            f"{ours['metrics']['accuracy']:.4f} | {theirs['test_accuracy']:.4f} | {cached['wall']:.0f} |",
            flush=True,
        )
    accuracies = [run["metrics"]["accuracy"] for run in runs]
    print(f"\nratio: median {median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    print(
        f"test accuracy: mean {sum(accuracies) / len(accuracies):.4f}, {min(accuracies):.4f} to {max(accuracies):.4f}"
    )
    print("\n| node | seconds, median | peak MB, most |")
    print("|---|---|---|")
    for position, node in enumerate(runs[0]["nodes"]):
        same = [run["nodes"][position] for run in runs]
        print(f"| {node['id']} | {median(n['seconds'] for n in same):.1f} | {max(n['peak_mb'] for n in same)} |")


if __name__ == "__main__":
    main()
