"""Starts the clean process of the ServingGate and reads what it replies."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components import features
from components.gates.serving import probe as probe_script
from components.gates.serving.gate import ServingGateConfig

# Where libraries are, and what changes numbers: the candidate was evaluated under the same. Nothing else of the
# environment is handed on, no address of a store and no password.
_HANDED_ON = (
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)
_MOST_REPLY_BYTES = 64 << 20
_LAST_WORDS_BYTES = 8 << 10
_REASON_CHARACTERS = 300


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Spec(_Reply):
    """A tensor of a signature; ``shape`` has None for an open size, and is None where even the rank is open."""

    dtype: str
    shape: tuple[int | None, ...] | None


class Signature(_Reply):
    """A signature as found in the model: name to tensor."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


class Answer(_Reply):
    """What one request of N texts got: N labels, N label ids, N rows of probabilities; or the ``error`` it raised."""

    labels: tuple[str, ...] = ()
    label_ids: tuple[int, ...] = ()
    probabilities: tuple[tuple[float, ...], ...] = ()
    error: str | None = None


class Probe(_Reply):
    """What a model did in a process of its own.

    Attributes:
        failure: Why there is no reply, one sentence; everything else is empty then.
        process_seconds: From the start of the process to its end.
        import_seconds: Of TensorFlow and tensorflow-text.
        load_seconds: From the call that loads the model to the first answer.
        memory_mb: Peak of resident memory, MiB.
        latencies_ms: Of single-text requests.
        signatures: By name, as found.
        alone: One answer per text, each asked alone of ``serving_default``.
        together: Signature to its answer on all texts in one batch.
    """

    failure: str | None = None
    process_seconds: float = 0.0
    import_seconds: float = 0.0
    load_seconds: float = 0.0
    memory_mb: float = 0.0
    tensorflow: str = ""
    latencies_ms: tuple[float, ...] = ()
    signatures: dict[str, Signature] = Field(default_factory=dict)
    alone: tuple[Answer, ...] = ()
    together: dict[str, Answer] = Field(default_factory=dict)


def probe(
    model_dir: Path,
    texts: Sequence[bytes],
    settings: ServingGateConfig,
    timed: Sequence[int] = (0,),
    environment: Mapping[str, str] = os.environ,
) -> Probe:
    """Loads a model in a separate process with TensorFlow and tensorflow-text only, and asks it.

    Args:
        model_dir: SavedModel directory; ``check_model_files`` and ``check_model_graph`` must have passed it.
        texts: UTF-8 bytes, asked one by one and all at once.
        settings: How long it may take, and how many requests are timed.
        timed: Indices of the texts whose requests are timed, in turn.
        environment: Environment variables; next to nothing of them is handed on.
    """
    with tempfile.TemporaryDirectory(prefix="newsdesk-probe-") as place:
        reply, chatter = Path(place, "reply.json"), Path(place, "stderr")
        request = make_request(model_dir, texts, settings, timed) | {"reply": str(reply)}
        started = time.perf_counter()
        with chatter.open("wb") as stderr:
            try:
                ended = subprocess.run(  # noqa: S603  our own script and interpreter
                    [sys.executable, "-I", str(Path(probe_script.__file__).absolute())],
                    input=json.dumps(request).encode(),
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    cwd=place,
                    env=clean_environment(environment, place),
                    timeout=settings.process_seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return Probe(failure=f"the model's process was not done after {settings.process_seconds:g} s")
        seconds = time.perf_counter() - started
        if ended.returncode != 0:
            return Probe(failure=f"the model's process {_end(ended.returncode)}: {_last_words(chatter)}")
        return _read(reply).model_copy(update={"process_seconds": seconds})


def make_request(
    model_dir: Path, texts: Sequence[bytes], settings: ServingGateConfig, timed: Sequence[int] = (0,)
) -> dict[str, Any]:
    """Returns what ``probe.examine`` takes, and how long it may take, as plain values for JSON."""
    return {
        "model": str(model_dir.absolute()),
        "texts": [base64.b64encode(text).decode() for text in texts],
        "signatures": features.INPUTS,
        "feature": features.TEXT,
        "outputs": features.OUTPUTS,
        "timed": [timed[number % len(timed)] for number in range(settings.requests)],
        "seconds": settings.process_seconds,
    }


def clean_environment(environment: Mapping[str, str], home: str) -> dict[str, str]:
    """Returns the environment of the process: what ``environment`` says of libraries and threads, and no more."""
    return {name: environment[name] for name in _HANDED_ON if name in environment} | {
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _read(reply: Path) -> Probe:
    try:
        if (size := reply.stat().st_size) > _MOST_REPLY_BYTES:
            return Probe(failure=f"the model's process replied with {size:,} bytes, more than {_MOST_REPLY_BYTES:,}")
        return Probe.model_validate_json(reply.read_bytes())
    except FileNotFoundError:
        return Probe(failure="the model's process ended without a reply")
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        return Probe(failure=f"the model's process replied with something else than agreed, at {where or 'the start'}")


def _end(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"


def _last_words(chatter: Path) -> str:
    with chatter.open("rb") as file:
        file.seek(max(0, chatter.stat().st_size - _LAST_WORDS_BYTES))
        lines = file.read().decode("utf-8", "replace").split("\n")
    said = [" ".join(line.split()) for line in lines if line.strip()]
    return said[-1][:_REASON_CHARACTERS] if said else "it said nothing"
