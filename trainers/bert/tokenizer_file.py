"""Reads a checkpoint's ``tokenizer_config.json``: every setting is obeyed, or refused by its name.

Names and meanings are those of Hugging Face's ``BertTokenizer``, to which this file goes before ``tokenizer.json``.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from components.errors import BadInputError
from components.settings import describe
from components.text.vocabulary import CLS, PAD, SEP, UNK

TOKENIZER_FILE = "tokenizer_config.json"
_MOST_CHARACTERS = 60
_SPECIAL = (PAD, UNK, CLS, SEP, "[MASK]")
# The only values that the graph can do.
_FIXED: dict[str, tuple[Any, ...]] = {
    "tokenizer_class": (None, "BertTokenizer", "BertTokenizerFast"),
    "do_basic_tokenize": (True,),
    "never_split": (None, []),
    "clean_text": (True,),
    "wordpieces_prefix": ("##",),
    "max_input_chars_per_word": (100,),
    "truncation_side": ("right",),
    "auto_map": (None,),
    "init_inputs": (None, []),
    **{f"{token[1:-1].lower()}_token": (token,) for token in _SPECIAL},
}
# Padding and length, which are bert.max_tokens' business, the way back from ids to text, and names of files.
_WITHOUT_EFFECT = {
    *("backend", "chat_template", "clean_up_tokenization_spaces", "from_slow", "full_tokenizer_file", "is_local"),
    *("max_length", "model_input_names", "name_or_path", "pad_to_multiple_of", "pad_token_type_id", "padding"),
    *("padding_side", "processor_class", "special_tokens_map_file", "split_special_tokens", "stride", "tokenizer_file"),
    *("transformers_version", "truncation", "truncation_strategy", "use_fast", "vocab_file", "_commit_hash"),
}
_TOKENS = ("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")


class TokenizerSettings(BaseModel):
    """The settings that are obeyed; None leaves one open."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    do_lower_case: StrictBool | None = None
    strip_accents: StrictBool | None = None
    tokenize_chinese_chars: StrictBool = True
    model_max_length: float | None = Field(None, validation_alias=AliasChoices("model_max_length", "max_len"))


def read_tokenizer(directory: Path, max_tokens: int) -> TokenizerSettings:
    """Returns what the file of a checkpoint says, or the defaults where there is none.

    Args:
        directory: Of the checkpoint.
        max_tokens: Ids of a text, as configured.

    Raises:
        BadInputError: The file is damaged, or a setting has a value that the graph cannot have or a name that is not
            known.
    """
    path = directory / TOKENIZER_FILE
    if not path.is_file():
        return TokenizerSettings()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        items = list(values.items())
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInputError(f"{path} is not a JSON object: fetch the checkpoint again, or delete it") from error
    for name, value in items:
        one = _content(value) if name.endswith("_token") else value
        if name in _FIXED and one not in _FIXED[name]:
            allowed = " or ".join(json.dumps(each) for each in _FIXED[name])
            raise BadInputError(f"{path}: {name} is {_shown(one)}, and only {allowed} is supported")
        if name in _TOKENS and (added := [each for each in _tokens(value) if each not in _SPECIAL]):
            allowed = ", ".join(_SPECIAL)
            raise BadInputError(f"{path}: {name} has {_shown(added[0])}, and only {allowed} are supported")
        if name not in {*_FIXED, *_TOKENS, *_WITHOUT_EFFECT, *TokenizerSettings.model_fields, "max_len"}:
            raise BadInputError(f"{path}: {name} is not supported: delete it if token ids do not depend on it")
    try:
        found = TokenizerSettings.model_validate(values)
    except ValidationError as error:
        raise BadInputError(f"{path}: {describe(error)}") from error
    if found.model_max_length is not None and max_tokens > found.model_max_length:
        raise BadInputError(
            f"bert.max_tokens is {max_tokens}, and model_max_length is {found.model_max_length:g} in {path}"
        )
    return found


def _tokens(value: Any) -> list[Any]:
    listed = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return [_content(each) for each in listed if each is not None]


def _content(token: Any) -> Any:
    """A token may be written with attributes, which concern special tokens within a text."""
    return token.get("content") if isinstance(token, dict) else token


def _shown(value: Any) -> str:
    return json.dumps(value)[:_MOST_CHARACTERS]
