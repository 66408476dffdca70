"""Texts a second of a loop over a SavedModel and nothing else: the ceiling of any server in this language.

    python -P benchmarks/bare_loop.py VERSION_DIR ROWS SECONDS [--intra-op-threads N] < texts.json

``-P`` because ``serving.py`` beside this file has the name of the package. Texts come as a JSON list; they go through
in batches of ``ROWS`` on average, those of similar length together, as the server brings them together.
"""

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from serving.config import make_config
from serving.models import warm_up
from serving.server import Loader


def main() -> None:
    """Measures and prints one number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path)
    parser.add_argument("rows", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of the server")
    arguments = parser.parse_args()
    settings = dict(setting.split("=", 1) for setting in arguments.set)
    model = Loader(make_config({"model_dir": arguments.version, **settings}))(arguments.version)
    warm_up(model)
    texts = sorted((text.encode() for text in json.load(sys.stdin)), key=len)
    ends = [round(number * arguments.rows) for number in range(int(len(texts) / arguments.rows) + 1)]
    batches = [texts[start:end] for start, end in pairwise(ends)]
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < arguments.seconds:
        for batch in batches:
            model.answer(batch)
            done += len(batch)
    print(done / (time.perf_counter() - begun))


if __name__ == "__main__":
    main()
