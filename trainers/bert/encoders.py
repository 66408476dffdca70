"""Brings any BERT encoder into the one form that the graph uses: a SavedModel as on TF-Hub, and its vocabulary.

This happens once, before the graph starts; the nodes read files and never fetch any.
"""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from components.errors import BadInputError
from components.push.model_graph import check_model_graph
from components.text.vocabulary import check_casing, is_cased, read_vocabulary, vocabulary_digest
from trainers.bert.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_architecture
from trainers.bert.config import AS_SAVED, BertConfig, Encoder
from trainers.bert.digest import GRAPH_FILE, encoder_digest
from trainers.bert.fetch import fetch_encoder, is_handle, make_once
from trainers.bert.named_encoders import NAMED, HubModels
from trainers.bert.tokenizer_file import TOKENIZER_FILE, read_tokenizer
from trainers.family import Downloads

VOCABULARY_FILE = "vocab.txt"
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPU_INFO = Path("/proc/cpuinfo")


def prepare_encoder(config: BertConfig, downloads: Downloads) -> Encoder:
    """Finds, fetches, checks and converts the encoder of a configuration; what is in the cache is used again.

    Args:
        config: Names the encoder and how it is to be used.
        downloads: Of its environment variables, pip reads its own, and one says where TF-Hub's cache is.

    Raises:
        BadInputError: The encoder cannot be had, is not a whole BERT encoder, does not fit the configuration, or
            changed meanwhile.
    """
    place = _locate(config.encoder, downloads)
    saved = (place / GRAPH_FILE).is_file()
    if not saved and not (place / CONFIG_FILE).is_file():
        raise BadInputError(
            f"{place} holds no encoder: name a directory with {GRAPH_FILE}, or with {CONFIG_FILE}, {VOCABULARY_FILE} "
            f"and {WEIGHTS_FILE}"
        )
    vocabulary = _vocabulary(config.encoder, place, downloads)
    # Before anything is read of it, and once more when all is.
    digest = encoder_digest(place, vocabulary)
    if saved:
        found = _from_saved_model(config, place, vocabulary, digest)
    else:
        found = _from_checkpoint(config, place, vocabulary, digest, downloads)
    encoder_digest(place, vocabulary, digest)
    return found


def _locate(encoder: str, downloads: Downloads) -> Path:
    if encoder in NAMED or is_handle(encoder):
        return fetch_encoder(encoder, downloads)
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


def _vocabulary(encoder: str, place: Path, downloads: Downloads) -> Path:
    source = NAMED[encoder].source if encoder in NAMED else None
    if isinstance(source, HubModels):
        place = fetch_encoder(source.preprocess, replace(downloads, say=lambda _: None, progress=None))
    for path in (place / VOCABULARY_FILE, place / "assets" / VOCABULARY_FILE):
        if path.is_file():
            return path
    raise BadInputError(f"{place} has no {VOCABULARY_FILE}, nor one in assets: put the encoder's vocabulary there")


def _from_checkpoint(config: BertConfig, place: Path, vocabulary: Path, digest: str, downloads: Downloads) -> Encoder:
    architecture = read_architecture(place)
    pieces = _read_pieces(vocabulary, architecture.vocab_size)
    _check_fit(config, architecture.num_hidden_layers, architecture.max_position_embeddings)
    tokenizer = _tokenizer(config, place, vocabulary, pieces)
    lower_case, precision = tokenizer["lower_case"], _choose_precision(config.precision)
    converted = downloads.cache.expanduser().absolute() / "encoders" / "converted"
    key = f"{digest[:16]}-{'un' * lower_case}cased-{downloads.code_digest('trainers.bert.convert')}"
    made = {name: converted / f"{key}-{name}" for name in {precision, config.serving_precision}}

    def make(name: str, directory: Path) -> None:
        from trainers.bert import convert

        downloads.say(f"converting {place} to a SavedModel in {name}")
        convert.convert(place, vocabulary, lower_case, name, directory / name)
        # Whoever names the directory again tokenises as here.
        for settings in place.glob(TOKENIZER_FILE):
            shutil.copy(settings, directory / name)
        encoder_digest(place, vocabulary, digest)
        (directory / name).rename(made[name])

    for name, target in made.items():
        make_once(target, target.is_dir, partial(make, name), downloads.say)
    serving = str(made[config.serving_precision])
    return Encoder(config.encoder, digest, str(made[precision]), serving, precision, **tokenizer)


def _from_saved_model(config: BertConfig, place: Path, vocabulary: Path, digest: str) -> Encoder:
    from trainers.bert.saved import inspect_encoder

    for setting, left in (("precision", "auto"), ("serving_precision", "float32")):
        if (value := getattr(config, setting)) != left:
            raise BadInputError(
                f"bert.{setting} is {value}, but the precision of {config.encoder} was fixed when it was saved: "
                f"leave it at {left}"
            )
    check_model_graph(place)
    found = inspect_encoder(place, config.max_tokens)
    pieces = _read_pieces(vocabulary, found.vocab_size)
    _check_fit(config, found.layers, config.max_tokens)
    tokenizer = _tokenizer(config, place, vocabulary, pieces, found.lower_case)
    return Encoder(config.encoder, digest, str(place), str(place), AS_SAVED, **tokenizer)


def _read_pieces(vocabulary: Path, rows: int | None) -> tuple[str, ...]:
    """Returns the word pieces, checked against the rows of the embedding table where they are known."""
    pieces = read_vocabulary(vocabulary)
    if rows is not None and len(pieces) != rows:
        raise BadInputError(
            f"{vocabulary} has {len(pieces)} pieces, and the embedding table has {rows} rows: use the "
            f"{VOCABULARY_FILE} that belongs to the encoder"
        )
    return pieces


def _check_fit(config: BertConfig, layers: int, positions: int) -> None:
    if config.train == "top" and not layers:
        raise BadInputError(
            f"the variables of {config.encoder} do not say which layer they belong to: set bert.train to full or frozen"
        )
    if config.train == "top" and config.top_layers > layers:
        raise BadInputError(f"bert.top_layers is {config.top_layers}, and {config.encoder} has {layers} layers")
    if config.max_tokens > positions:
        raise BadInputError(f"bert.max_tokens is {config.max_tokens}, and {config.encoder} has {positions} positions")


def _tokenizer(
    config: BertConfig, place: Path, vocabulary: Path, pieces: tuple[str, ...], saved: bool | None = None
) -> dict[str, Any]:
    """Whether it lower-cases the setting says, then the encoder itself, then the look of its vocabulary."""
    said = read_tokenizer(place, config.max_tokens)
    told = (config.lower_case, saved, said.do_lower_case)
    lower_case = next((it for it in told if it is not None), not is_cased(pieces))
    check_casing(pieces, lower_case, vocabulary, "bert.lower_case")
    return {
        "vocabulary": str(vocabulary),
        "vocabulary_digest": vocabulary_digest(vocabulary),
        "lower_case": lower_case,
        "strip_accents": said.strip_accents,
        "tokenize_chinese_chars": said.tokenize_chinese_chars,
    }


def _choose_precision(wanted: str, cpu_info: Path = _CPU_INFO) -> str:
    """Without instructions for it, bfloat16 is slower than float32."""
    if wanted != "auto":
        return wanted
    try:
        flags = set(cpu_info.read_text(encoding="utf-8").split())
    except OSError:
        return "float32"
    return "bfloat16" if flags & _BFLOAT16_FLAGS else "float32"
