"""Reads a Dockerfile, and rehearses it: executes its instructions, in order, in the userland that this runs in.

    python3 tests/support/dockerfile.py          as root, in a throw-away Debian of the release that it names

A machine without a container engine can show that way that every RUN line works. All stages share one file system, so
what it cannot show is what a stage does without the files of another; COPY from the image of another project is left
out, and said.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_OWN_STAGE = "builder"


@dataclass(frozen=True)
class Instruction:
    """One instruction, in the stage of that name; the last stage has none."""

    stage: str
    name: str
    text: str


def parse(text: str) -> list[Instruction]:
    """Returns the instructions in order, each on one line."""
    found: list[Instruction] = []
    stage = ""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.partition(" AS ")[2]
        found.append(Instruction(stage, name, rest))
    return found


def rehearse(instructions: list[Instruction], context: Path) -> None:
    """Executes the instructions."""
    environment, user, directory = dict(os.environ), "", "/"
    for item in instructions:
        print(f"{item.stage or 'last'}: {item.name} {item.text}", flush=True)
        started = time.monotonic()
        match item.name:
            case "FROM":
                environment, user, directory = dict(os.environ), "", "/"
            case "ENV":
                environment |= dict(part.split("=", 1) for part in shlex.split(item.text))
            case "USER":
                user = item.text
            case "WORKDIR":
                directory = item.text
            case "COPY":
                _copy(item.text, context)
            case "RUN":
                command = ["/bin/sh", "-c", item.text]
                if user:
                    number, _, group = user.partition(":")
                    command = ["setpriv", f"--reuid={number}", f"--regid={group}", "--clear-groups", *command]
                    environment |= {"HOME": "/home/newsdesk"}
                subprocess.run(command, check=True, cwd=directory, env=environment)
                print(f"    {time.monotonic() - started:.1f} s", flush=True)


def _copy(text: str, context: Path) -> None:
    source = re.search(r"--from=(\S+)", text)
    mode = re.search(r"--chmod=(\d+)", text)
    if source:
        # The stages share one file system here.
        print(f"    {'is there already' if source[1] == _OWN_STAGE else 'not rehearsed'}", flush=True)
        return
    *sources, target = [part for part in shlex.split(text) if not part.startswith("--")]
    for name in sources:
        place = Path(target) / name if target.endswith("/") else Path(target)
        place.parent.mkdir(parents=True, exist_ok=True)
        if (context / name).is_dir():
            shutil.copytree(context / name, place, dirs_exist_ok=True)
        else:
            shutil.copy(context / name, place)
        if mode:
            place.chmod(int(mode[1], 8))


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    rehearse(parse((root / "Dockerfile").read_text(encoding="utf-8")), root)
    sys.exit(0)
