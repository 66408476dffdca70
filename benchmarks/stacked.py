"""Draws where the time of whole runs goes: a stacked bar per run, a colour per node.

    .venv/bin/python benchmarks/stacked.py --out docs/performance.svg "before=FILE" "after=FILE"...

Each FILE is what ``benchmarks/whole_run.py --json`` wrote. The epochs of training are drawn apart from what else the
Trainer does; nodes below a second are one colour together, and so is what no node accounts for: start and end.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

_LEAST_SECONDS = 1.0
_EPOCHS, _SMALL, _REST = "epochs of training", "nodes below a second", "start, tracking, report"


def parts(whole: dict[str, Any]) -> dict[str, float]:
    """Returns seconds by part of a run, the epochs first, then nodes in running order."""
    nodes = dict(whole["nodes"])
    nodes["Trainer"] -= whole["training"]
    found = {_EPOCHS: whole["training"]} | {name: value for name, value in nodes.items() if value >= _LEAST_SECONDS}
    found[_SMALL] = sum(value for value in nodes.values() if value < _LEAST_SECONDS)
    return found | {_REST: whole["wall"] - whole["training"] - sum(nodes.values())}


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    runs = {}
    for item in arguments.runs:
        name, _, file = item.partition("=")
        runs[name] = parts(json.loads(Path(file).read_text(encoding="utf-8")))
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    colours = dict(zip(names, map(plt.get_cmap("tab20"), range(20)), strict=False))
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.7 * len(runs)), layout="constrained")
    for row, run in enumerate(runs.values()):
        start = 0.0
        for name, seconds in run.items():
            axes.barh(row, seconds, left=start, color=colours[name], label=name)
            if seconds >= 4:
                axes.text(start + seconds / 2, row, f"{seconds:.0f}", ha="center", va="center", fontsize=8)
            start += seconds
        axes.text(start + 0.5, row, f"{start:.0f} s", va="center")
    axes.set_yticks(range(len(runs)), list(runs))
    axes.invert_yaxis()
    axes.set_xlabel("seconds of a whole run, empty workspace")
    axes.margins(x=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "newsdesk"
    figure.savefig(arguments.out, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()
