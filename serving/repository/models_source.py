"""Reads, time after time, which models are to be served; what cannot be read now is as it was."""

import os
from pathlib import Path

from components.errors import BadInputError
from components.push.aliases import ALIASES_FILE, LABELS, MODELS_CONFIG, SERVED, read_aliases
from serving.repository.models_config import MOST_BYTES, ModelConfig, find_versions, parse_models_config


class ModelsSource:
    """What a directory says is to be served.

    With a ``models.config`` in it, what that says. Otherwise the directory is one model base, or holds model bases; of
    each, the versions that its ``aliases.json`` names, or without that the highest.

    A model goes when a ``models.config`` that can be read lists others but not it. A file or a directory that is
    emptied, gone or damaged takes nothing away.
    """

    def __init__(self, serving: Path):
        """Reads nothing yet.

        Args:
            serving: Directory of models, or the base of one.
        """
        self._serving = Path(os.path.abspath(serving))
        self._last: dict[str, ModelConfig] = {}
        self._parsed: tuple[str, BadInputError | None] | None = None
        self._configured = False
        self._is_base: bool | None = None

    def read(self) -> tuple[dict[str, ModelConfig], list[str]]:
        """Returns the models by name, and what is wrong, one sentence each."""
        path = self._serving / MODELS_CONFIG
        try:
            text = _read_text(path)
        except FileNotFoundError:
            if self._configured:
                return self._last, [f"{path} is gone: what it said last holds until it is back"]
            return self._scan()
        except OSError as error:
            return self._last, [f"{path} cannot be read ({error.strerror}): see to its owner and permissions"]
        except BadInputError as error:
            return self._last, [str(error)]
        damage = self._follow(path, text)
        return self._last, [str(damage)] if damage else []

    def _follow(self, path: Path, text: str) -> BadInputError | None:
        if self._parsed is None or self._parsed[0] != text:
            self._parsed = (text, None)
            try:
                found = parse_models_config(text, str(path))
                if self._last and not found:
                    raise BadInputError(f"{path} lists no model any more: what it said last holds until it lists one")
                self._last, self._configured = found, True
            except BadInputError as error:
                self._parsed = (text, error)
        return self._parsed[1]

    def _scan(self) -> tuple[dict[str, ModelConfig], list[str]]:
        troubles: list[str] = []
        found: dict[str, ModelConfig] = {}
        try:
            bases = self._find_bases(troubles)
        except OSError as error:
            return self._last, [f"{self._serving} cannot be read ({error.strerror}): what was loaded from it goes on"]
        for base in bases:
            before = self._last.get(base.name)
            try:
                found[base.name] = _from_aliases(base, before)
            except (BadInputError, OSError) as error:
                troubles.append(str(error))
                if before:
                    found[base.name] = before
        for name in sorted(self._last.keys() - found.keys()):
            troubles.append(f"{self._last[name].base} holds no model that can be read: what was loaded from it goes on")
        self._last = {**self._last, **found}
        return self._last, troubles

    def _find_bases(self, troubles: list[str]) -> list[Path]:
        # The first content found decides whether this is one base or a directory of bases.
        if self._is_base is None and _is_base(self._serving):
            self._is_base = True
        if self._is_base:
            return [self._serving]
        with os.scandir(self._serving) as entries:
            found = sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        bases = []
        for path in map(Path, found):
            try:
                if _is_base(path):
                    bases.append(path)
            except OSError as error:
                troubles.append(f"{path} cannot be read ({error.strerror}): see to its owner and permissions")
        if bases:
            self._is_base = False
        return bases


def find_wanted(config: ModelConfig, troubles: list[str]) -> dict[int, Path]:
    """Returns the versions that a configuration names, each with its directory; none where there is none to choose.

    Args:
        config: One model.
        troubles: Gets a sentence if its base holds no version or cannot be read.
    """
    try:
        present = find_versions(config.base)
    except OSError as error:
        troubles.append(f"{config.base} cannot be read ({error.strerror}): what was loaded from it goes on")
        present = {}
    else:
        if not present:
            troubles.append(f"{config.base} holds no version: what was loaded from it goes on")
    return config.choose(present)


def _is_base(directory: Path) -> bool:
    return bool(find_versions(directory)) or (directory / ALIASES_FILE).is_file()


def _from_aliases(base: Path, before: ModelConfig | None) -> ModelConfig:
    aliases = {alias: number for alias, number in read_aliases(base).items() if alias in SERVED}
    labels = {alias: number for alias, number in aliases.items() if alias in LABELS}
    if labels:
        return ModelConfig(base.name, base, specific=tuple(sorted(set(aliases.values()))), labels=labels)
    if before and before.labels:
        # Without its aliases a base would serve its highest version, which nobody has accepted.
        raise BadInputError(f"{base / ALIASES_FILE} names no champion any more: what it said last holds until it does")
    return ModelConfig(base.name, base)


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise BadInputError(f"{path} has more than {MOST_BYTES:,} bytes: newsdesk models promote writes it anew")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text: newsdesk models promote writes it anew") from error
