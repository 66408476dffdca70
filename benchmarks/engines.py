"""Rows per second, processor time and peak memory of the data nodes, by engine and number of rows.

    .venv/bin/python benchmarks/engines.py --rows 100000 --rows 1000000 --engine in-memory
    .venv/bin/python benchmarks/engines.py --rows 100000 --engine in-memory --engine flink

Every measurement is a process of its own, which runs the graph of ``newsdesk run --preset ag-news`` from the first node
to Transform on synthetic rows. Flink is one of its own in a JVM (``make test-engines`` fetches the jars) with the
process as its worker. Memory is the sum of resident sets of the process and all its children, the JVM among them,
sampled five times a second; shared pages count once for each process. Processor time is theirs together, and what
to compare where a machine is shared: load is what ``uptime`` says, before and after, and above the number of cores
somebody waited.

Rows are words drawn from a seeded Zipf-like distribution of 60,000, as many in a text as AG News has: 43 on average.
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


def run_nodes(data: Path, workspace: Path, settings: list[str]) -> list[dict[str, Any]]:
    """Runs the graph as far as Transform; returns name, start, end and state of each node."""
    from datetime import UTC, datetime

    from components.example_gen.spans import open_data
    from components.registry import Registry
    from components.tracking import choose_store
    from pipeline.cli.run import configure
    from pipeline.graph import RegistryState, create_pipeline
    from pipeline.runners.ir import compile_graph
    from pipeline.runners.launch import NodeLauncher
    from pipeline.workspace import open_workspace

    # Synthetic words tell classes apart no better than chance, and repeat each other: no gate judges them here.
    config = configure("ag-news", None, tuple(settings))
    source = open_data(data, "all", 0, datetime.now(UTC))
    place = open_workspace(workspace)
    store = choose_store({}, place.mlflow_store, place.mlflow_artifacts)
    registry = RegistryState(store.uri, Registry(store, config.name).snapshot())
    pipeline = create_pipeline(config, source, place, {}, registry, enable_cache=False)
    launcher = NodeLauncher(compile_graph(pipeline, "benchmark"), pipeline.metadata_connection_config, "benchmark")
    done = []
    for name in launcher.node_ids:
        started = time.time()
        node, error = launcher.run(name)
        if error:
            raise error
        done.append({"name": name, "started": started, "ended": time.time(), "state": node.state})
        if name == "Transform":
            return done
    raise RuntimeError("the graph has no Transform")


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


def measure(data: Path, engine: str, heap: str, settings: list[str]) -> tuple[list[dict[str, Any]], list[float]]:
    """Returns the nodes with seconds, processor seconds and peak MB, and the load before and after."""
    options = list(settings)
    server = None
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as directory, cost_of(psutil.Process()) as samples:
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
            command = [sys.executable, "-P", __file__, "--child", "--data", str(data), "--workspace", directory]
            done = subprocess.run(
                [*command, *(part for item in options for part in ("--set", item))],
                capture_output=True, text=True, check=False,
                env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            )  # fmt: skip
        finally:
            if server:
                server.terminate()
                server.wait()
    if done.returncode:
        raise SystemExit(done.stderr[-4000:])
    loads.append(os.getloadavg()[0])
    nodes = json.loads(done.stdout.splitlines()[-1])
    for node in nodes:
        inside = [sample for sample in samples if node["started"] <= sample[0] <= node["ended"]]
        node["seconds"] = node["ended"] - node["started"]
        node["peak"] = max((size for _, size, _ in inside), default=0.0)
        node["cpu"] = inside[-1][2] - inside[0][2] if inside else 0.0
    return nodes, loads


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
        nodes = run_nodes(arguments.data, arguments.workspace, arguments.settings)
        os.write(out, f"{json.dumps(nodes)}\n".encode())
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
                nodes, loads = measure(data, engine, arguments.heap, arguments.settings)
                show(rows, engine, nodes, loads)


def show(rows: int, engine: str, nodes: list[dict[str, Any]], loads: list[float]) -> None:
    """Prints a line for every node worth one, and one for all of them; rates are of all rows, test split included."""
    total = rows + rows // 20
    chosen = [node for node in nodes if node["name"] in NODES]
    whole = {name: sum(node[name] for node in nodes) for name in ("seconds", "cpu")}
    whole |= {"name": f"all, load {loads[0]:.1f} to {loads[1]:.1f}", "peak": max(node["peak"] for node in nodes)}
    for node in [*chosen, whole]:
        seconds, cpu = max(node["seconds"], 1e-3), max(node["cpu"], 1e-2)
        cells = [
            f"{seconds:.0f}",
            f"{total / seconds:,.0f}",
            f"{cpu:.0f}",
            f"{total / cpu:,.0f}",
            f"{node['peak']:,.0f}",
        ]
        print(f"| {rows:,} | {engine} | {node['name']} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
