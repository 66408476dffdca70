"""Rows per second, processor time and peak memory of the data nodes, by engine and number of rows.

    .venv/bin/python benchmarks/engines.py --rows 100000 --rows 1000000 --engine in-memory
    .venv/bin/python benchmarks/engines.py --rows 100000 --engine in-memory --engine flink

Every measurement is a process of its own, which runs the graph of ``newsdesk run --preset ag-news`` from the first node
to Transform on synthetic rows. Flink is one of its own in a JVM (``make test-engines`` fetches the jars) with the
process as its worker. Memory is the sum of resident sets of the process and all its children, the JVM among them,
sampled five times a second; shared pages count once for each process. Processor time is theirs together, and what
to compare where a machine is shared: load is what ``uptime`` says, before and after, and above the number of cores
somebody waited.

Rows are words drawn from a seeded Zipf-like distribution of 60,000, 44 in a text on average, as many as AG News has.
A twentieth as many rows again are the test split.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

NODES = ("ExampleGen", "StatisticsGen", "ExampleValidator", "DataGate", "Transform")
_SAMPLE_SECONDS = 0.2
_WORDS = 60_000
_CHUNK = 10_000
_JOB_SERVER = Path(__file__).parents[1] / "tests" / "support" / "job_server.py"


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Writes synthetic rows in the AG News layout; the same seed gives the same file."""
    generator = np.random.default_rng(seed)
    # The words themselves belong to the language, not to a file.
    letters = np.random.default_rng(0).choice(list("etaoinshrdlucmfwypvbgk"), size=(_WORDS, 9))
    lengths = np.random.default_rng(1).integers(2, 10, size=_WORDS)
    words = np.array(["".join(row[:length]) for row, length in zip(letters, lengths, strict=True)])
    shares = 1 / (np.arange(_WORDS) + 10.0)
    edges = np.cumsum(shares / shares.sum())
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            sizes = np.stack([generator.poisson(7, count) + 1, generator.poisson(34, count) + 1], axis=1)
            drawn = words[np.minimum(np.searchsorted(edges, generator.random(int(sizes.sum()))), _WORDS - 1)]
            texts = [" ".join(part) for part in np.split(drawn, np.cumsum(sizes.ravel())[:-1])]
            labels = generator.integers(1, 5, count)
            # A number of its own, so that no two rows are alike.
            writer.writerows(
                (label, texts[2 * n], f"{texts[2 * n + 1]} {seed}x{start + n}") for n, label in enumerate(labels)
            )


def run_nodes(data: Path, workspace: Path, settings: list[str]) -> Iterator[dict[str, Any]]:
    """Runs the graph as far as Transform; yields name, start and end of each node."""
    from datetime import UTC, datetime

    from components.example_gen.spans import open_data
    from components.registry.registry import Registry
    from components.registry.tracking import choose_store
    from pipeline.cli.asked import configure
    from pipeline.graph import RegistryState, create_pipeline
    from pipeline.run.launch import NodeLauncher, compile_graph
    from pipeline.workspace.metadata import MetadataPlace
    from pipeline.workspace.place import open_workspace
    from pipeline.workspace.stores import SQLITE

    config = configure("ag-news", None, tuple(settings))
    source = open_data(data, "all", 0, datetime.now(UTC))
    place = open_workspace(workspace)
    store = choose_store({}, place.mlflow_store, place.mlflow_artifacts)
    registry = RegistryState(store.uri, Registry(store, config.name).snapshot())
    pipeline = create_pipeline(config, source, place, {}, registry, enable_cache=False)
    metadata = MetadataPlace(f"{SQLITE}{place.metadata}")
    launcher = NodeLauncher(compile_graph(pipeline, "benchmark"), metadata, "benchmark")
    for name in launcher.node_ids:
        started = time.time()
        _, error = launcher.run(name)
        if error:
            raise error
        yield {"name": name, "started": started, "ended": time.time()}
        if name == NODES[-1]:
            return


@contextmanager
def cost_of(process: psutil.Process) -> Iterator[list[tuple[float, float, float]]]:
    """Samples time, MB and seconds of processor time of a process and all its descendants."""
    samples: list[tuple[float, float, float]] = []
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(_SAMPLE_SECONDS):
            resident, spent = 0, 0.0
            try:
                for item in [process, *process.children(recursive=True)]:
                    resident += item.memory_info().rss
                    times = item.cpu_times()
                    spent += times.user + times.system
            except psutil.NoSuchProcess:
                continue
            samples.append((time.time(), resident / 1e6, spent))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stopped.set()
        thread.join()


def measure(data: Path, engine: str, heap: str, settings: list[str]) -> Iterator[dict[str, Any]]:
    """Yields each node as soon as it has run, with seconds, processor seconds and peak MB."""
    options = list(settings)
    server = None
    with tempfile.TemporaryDirectory() as directory, cost_of(psutil.Process()) as samples:
        log = Path(directory) / "child.log"
        try:
            if engine != "in-memory":
                server = subprocess.Popen(
                    [sys.executable, str(_JOB_SERVER), engine, "--heap", heap], stdout=subprocess.PIPE, text=True
                )
                assert server.stdout is not None
                endpoint = server.stdout.readline().strip()
                options += [f"beam.profile={engine}", f"beam.job_endpoint={endpoint}", "beam.workers=loopback"]
                options += ["beam.parallelism=2"] * (engine == "flink")
            # -P: the directory of this script holds a serving.py, which is not the package.
            command = [sys.executable, "-P", __file__, "--child", "--data", str(data)]
            command += ["--workspace", str(Path(directory) / "workspace")]
            command += [part for item in options for part in ("--set", item)]
            quiet = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
            with (
                log.open("w") as errors,
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=quiet) as child,
            ):
                assert child.stdout is not None
                for line in child.stdout:
                    yield _cost(json.loads(line), samples)
            if child.returncode:
                raise SystemExit(log.read_text()[-4000:])
        finally:
            if server:
                server.terminate()
                server.wait()


def _cost(node: dict[str, Any], samples: list[tuple[float, float, float]]) -> dict[str, Any]:
    inside = [sample for sample in samples if node["started"] <= sample[0] <= node["ended"]]
    return node | {
        "seconds": node["ended"] - node["started"],
        "peak": max((size for _, size, _ in inside), default=0.0),
        "cpu": inside[-1][2] - inside[0][2] if inside else 0.0,
    }


def main() -> None:
    """Measures every combination and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="of the train file; may be repeated")
    parser.add_argument("--engine", action="append", choices=["in-memory", "flink", "spark"])
    parser.add_argument("--heap", default="2g", help="of the engine's JVM")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workspace", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        out = os.dup(1)
        os.dup2(2, 1)
        for node in run_nodes(arguments.data, arguments.workspace, arguments.settings):
            os.write(out, f"{json.dumps(node)}\n".encode())
        return
    print(
        "| rows | engine | node | seconds | rows/s | CPU seconds | rows per CPU second | peak MB |\n|" + "---|" * 8,
        flush=True,
    )
    for rows in arguments.rows or [100_000]:
        with tempfile.TemporaryDirectory() as directory:
            data = Path(directory)
            write_rows(data / "train.csv", rows, seed=1)
            write_rows(data / "test.csv", rows // 20, seed=2)
            for engine in arguments.engine or ["in-memory"]:
                loads, nodes = [os.getloadavg()[0]], []
                for node in measure(data, engine, arguments.heap, arguments.settings):
                    nodes.append(node)
                    if node["name"] in NODES:
                        show(rows, engine, node)
                loads.append(os.getloadavg()[0])
                whole = {name: sum(node[name] for node in nodes) for name in ("seconds", "cpu")}
                whole |= {"name": f"all, load {loads[0]:.1f} to {loads[1]:.1f}"}
                show(rows, engine, whole | {"peak": max(node["peak"] for node in nodes)})


def show(rows: int, engine: str, node: dict[str, Any]) -> None:
    """Prints a line; rates are of all rows, those of the test split included."""
    total = rows + rows // 20
    seconds, cpu = max(node["seconds"], 1e-3), max(node["cpu"], 1e-2)
    cells = [f"{seconds:.0f}", f"{total / seconds:,.0f}", f"{cpu:.0f}", f"{total / cpu:,.0f}", f"{node['peak']:,.0f}"]
    print(f"| {rows:,} | {engine} | {node['name']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
