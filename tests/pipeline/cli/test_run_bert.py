"""An encoder that cannot be used stops ``newsdesk run`` before it starts, with one sentence that says what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import VOCABULARY, write_checkpoint, write_vocabulary
from tiny_settings import TINY_BERT, to_options

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    ("spoil", "settings", "words"),
    [
        (None, {"encoder": "minilm-l7"}, ("'minilm-l7'", "bert.encoder")),
        (
            None,
            {"encoder": "http://127.0.0.1:9/tiny/1"},
            ("newsdesk fetch encoder", "NEWSDESK_CACHE", "TFHUB_CACHE_DIR"),
        ),
        (None, {"top_layers": "3"}, ("bert.top_layers is 3", "2 layers")),
        (None, {"max_tokens": "33"}, ("bert.max_tokens is 33", "32 positions")),
        (None, {"lower_case": "false"}, ("vocab.txt", "bert.lower_case=true")),
        (None, {"train": "most"}, ("bert.train", "'most'")),
        (lambda place: (place / "config.json").unlink(), {}, ("holds no encoder",)),
        (lambda place: (place / "vocab.txt").unlink(), {}, ("has no vocab.txt",)),
        (lambda place: write_vocabulary(place / "vocab.txt", VOCABULARY[:-1]), {}, ("39 pieces", "40 rows")),
        (lambda place: write_checkpoint(place, hidden_act="silu"), {}, ("hidden_act", "'silu'")),
        (lambda place: (place / "model.safetensors").write_bytes(b"\x08"), {}, ("model.safetensors", "truncated")),
    ],
    ids=["name", "handle", "layers", "positions", "casing", "mode", "config", "vocab", "short_vocab", "act", "weights"],
)
def test_an_encoder_that_cannot_be_used_stops_the_run_before_it_starts(
    newsdesk: Callable[..., tuple[object, str, str]],
    make_data: Callable[..., Path],
    tmp_path: Path,
    spoil: Callable[[Path], Any] | None,
    settings: dict[str, str],
    words: tuple[str, ...],
) -> None:
    encoder, data, workspace = write_checkpoint(tmp_path / "encoder"), make_data(), tmp_path / "ws"
    if spoil:
        spoil(encoder)
    chosen = TINY_BERT | {"bert.encoder": str(encoder)} | {f"bert.{name}": value for name, value in settings.items()}
    places = ["--data", str(data), "--workspace", str(workspace), "--cache", str(tmp_path / "cache")]
    code, out, said = newsdesk("run", "--json", "--model", "bert", *places, *to_options(chosen))
    assert (code, out) == (2, "")
    lines = said.splitlines()
    assert [line for line in lines if line.startswith("newsdesk: ")] == lines[-1:]
    for word in words:
        assert word in lines[-1]
    assert {path.name for path in workspace.rglob("*") if path.is_file()} <= {"run.log"}
