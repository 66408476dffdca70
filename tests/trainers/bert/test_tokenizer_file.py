"""Settings of a tokenizer are obeyed, or refused by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import BadInputError
from trainers.bert.named_encoders import NAMED, Wheel
from trainers.bert.tokenizer_file import TokenizerSettings, read_tokenizer

# Byte for byte that of the encoder minilm-l6, and then what other checkpoints add.
MINILM = (
    '{"do_lower_case": true, "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", '
    '"mask_token": "[MASK]", "tokenize_chinese_chars": true, "strip_accents": null, '
    '"name_or_path": "nreimers/MiniLM-L6-H384-uncased", "do_basic_tokenize": true, "never_split": null, '
    '"tokenizer_class": "BertTokenizer", "model_max_length": 512}'
)
ENTRY = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
ADDED = {"added_tokens_decoder": {"0": {"content": "[PAD]", **ENTRY}, "103": {"content": "[MASK]", **ENTRY}}}
WHOLE = json.loads(MINILM)


def read(directory: Path, settings: dict[str, Any]) -> TokenizerSettings:
    """Reads a file of these settings for texts of 128 tokens."""
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return read_tokenizer(directory, 128)


def test_without_a_file_everything_is_left_open(tmp_path: Path) -> None:
    found = read_tokenizer(tmp_path, 128)
    assert found == read(tmp_path, {}) == TokenizerSettings()
    assert (found.do_lower_case, found.strip_accents, found.tokenize_chinese_chars) == (None, None, True)


@pytest.mark.parametrize(
    "added",
    [
        {},
        {"model_max_length": 10**30, "max_length": 128, "stride": 0, "truncation_side": "right"},
        {"unk_token": {"content": "[UNK]", "__type": "AddedToken", **ENTRY}},
        {"max_len": 128, "init_inputs": [], "padding_side": "left"},
        {"tokenizer_class": "BertTokenizerFast", "never_split": [], "clean_up_tokenization_spaces": True},
        ADDED | {"additional_special_tokens": [], "extra_special_tokens": {}},
    ],
)
def test_what_published_checkpoints_say_is_read(tmp_path: Path, added: dict[str, Any]) -> None:
    source = NAMED["minilm-l6"].source
    assert isinstance(source, Wheel)
    assert hashlib.sha256(MINILM.encode()).hexdigest() == dict(source.files)["tokenizer_config.json"]
    found = read(tmp_path, WHOLE | added)
    assert (found.do_lower_case, found.strip_accents, found.tokenize_chinese_chars) == (True, None, True)


@pytest.mark.parametrize("name", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
@pytest.mark.parametrize("value", [True, False])
def test_what_the_graph_can_do_is_obeyed(tmp_path: Path, name: str, value: bool) -> None:
    assert getattr(read(tmp_path, {name: value}), name) is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "<other>") for name in WHOLE if name.endswith("_token")),
        *((name, "yes") for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length")),
        *((name, 1) for name in ("do_lower_case", "strip_accents")),
        ("tokenize_chinese_chars", None),
        ("unk_token", None),
        ("do_basic_tokenize", False),
        ("never_split", ["C++"]),
        ("clean_text", False),
        ("wordpieces_prefix", "@@"),
        ("max_input_chars_per_word", 200),
        ("tokenizer_class", "BertJapaneseTokenizer"),
        ("truncation_side", "left"),
        ("auto_map", {"AutoTokenizer": ["code.Tokenizer", None]}),
        ("added_tokens_decoder", {"1": {"content": "<user>", **ENTRY}}),
        ("additional_special_tokens", ["[E1]"]),
        ("extra_special_tokens", {"image_token": "<image>"}),
        ("model_max_length", 64),
        ("max_len", 64),
        ("a_setting_of_tomorrow", True),
    ],
)
def test_what_the_graph_cannot_do_is_refused_by_name(tmp_path: Path, name: str, value: Any) -> None:
    kept = {key: item for key, item in WHOLE.items() if name != "max_len" or key != "model_max_length"}
    with pytest.raises(BadInputError) as error:
        read(tmp_path, kept | {name: value})
    message = str(error.value)
    assert str(tmp_path / "tokenizer_config.json") in message
    assert ("model_max_length" if name == "max_len" else name) in message
    assert "\n" not in message
