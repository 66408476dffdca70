"""Moves of the registry's aliases, and with them of what serves.

Every move first checks, then changes the registry, then the files that servers follow. Each step can be repeated:
a move that was interrupted is finished by asking for it again.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.errors import BadInputError
from components.outcomes import Standing
from components.push.aliases import ALIASES_FILE, MODELS_CONFIG, is_settled, read_aliases, write_aliases
from components.push.manifest import verify
from components.push.model_base import ALIASES_LOCK, locked
from components.registry.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    SERVING_VERSION,
    STATUS,
    RegisteredVersion,
    Registry,
)

_ROLLED_BACK_AT, _ROLLED_BACK_FROM, _PROMOTED_AT = "rolled_back_at", "restored_after", "promoted_at"


@dataclass(frozen=True)
class Move:
    """What a promotion or a rollback did; ``changed`` is False where the alias pointed at ``version`` before.

    Versions are directories here, those of all ``aliases`` too.
    """

    version: int
    aliases: dict[str, int]
    changed: bool
    sentence: str


def promote(
    registry: Registry, serving: Path, version: int, alias: str = CHAMPION, snapshot: str | None = None
) -> Move:
    """Points ``champion`` or ``challenger`` at a pushed version; the champion before it becomes ``previous``.

    Args:
        registry: Of the model.
        serving: The directory of all models.
        version: The directory of the version.
        alias: ``champion`` or ``challenger``.
        snapshot: The registry's when the version was compared with its champion; None where nobody compared.

    Raises:
        GateRejectedError: The champion is another than that of the snapshot.
        BadInputError: The version is not in the registry or not on disk, its files are not those that were pushed,
            it is the champion and ought to become the challenger, or the store does not answer.
    """
    with _moving(serving / registry.name):
        candidate = _pushed(registry, serving, version)
        champion = registry.with_alias(CHAMPION)
        if snapshot is not None:
            registry.check_unmoved(snapshot, candidate.version)
        if alias == CHALLENGER and champion and champion.version == candidate.version:
            raise BadInputError(f"version {version} is the champion: it cannot challenge itself")
        changed = alias not in candidate.aliases
        if changed:
            # Tagged before the alias moves, so that a promotion that was interrupted between the two can be repeated.
            registry.tag(candidate.version, {STATUS: Standing.APPROVED, _PROMOTED_AT: _now()})
            if alias == CHAMPION and champion:
                registry.point(PREVIOUS, champion.version)
            registry.point(alias, candidate.version)
        aliases = _settle(registry, serving)
    was = f", after version {champion.serving_version}" if changed and champion and alias == CHAMPION else ""
    word = "now" if changed else "already"
    return Move(version, aliases, changed, f"version {version} of {registry.name} is {word} {alias}{was}")


def rollback(registry: Registry, serving: Path) -> Move:
    """Points ``champion`` at ``previous``. Asked for again it changes nothing: one bad version, one step back.

    Raises:
        BadInputError: There is nothing to return to, or as of ``promote``.
    """
    with _moving(serving / registry.name):
        champion, previous = registry.with_alias(CHAMPION), registry.with_alias(PREVIOUS)
        if champion is None or champion.serving_version is None:
            raise BadInputError(f"{registry.name} has no champion: there is nothing to roll back")
        # An interrupted promotion leaves both aliases on one version.
        if previous is None or previous.serving_version is None or previous.version == champion.version:
            if _ROLLED_BACK_FROM not in champion.tags:
                raise BadInputError(
                    f"version {champion.serving_version} of {registry.name} has no predecessor: "
                    "choose a version with newsdesk models promote"
                )
            aliases = _settle(registry, serving)
            done = f"version {champion.serving_version} of {registry.name} is champion already, since the rollback of "
            done += f"version {champion.tags[_ROLLED_BACK_FROM]}"
            return Move(champion.serving_version, aliases, False, done)
        _pushed(registry, serving, previous.serving_version)
        # Tagged before the aliases move: a retrain that makes the same model must find the tag.
        registry.tag(champion.version, {STATUS: Standing.ROLLED_BACK, _ROLLED_BACK_AT: _now()})
        registry.tag(previous.version, {_ROLLED_BACK_FROM: str(champion.serving_version), _PROMOTED_AT: _now()})
        registry.point(CHAMPION, previous.version)
        aliases = _settle(registry, serving)
    number = previous.serving_version
    said = f"version {number} of {registry.name} is champion again, after {champion.serving_version}"
    return Move(number, aliases, True, said)


def check_not_lost(registry: Registry, base: Path) -> None:
    """Holds the registry against the files that servers follow, which are its shadow.

    Raises:
        BadInputError: The registry has no champion, and by the files one serves: a run would compare with nothing.
    """
    served = {} if registry.with_alias(CHAMPION) else read_aliases(base)
    if number := served.get(CHAMPION):
        file = base / ALIASES_FILE
        raise BadInputError(
            f"by {file} version {number} of {registry.name} serves, but MLflow at {registry.store.uri} has no champion "
            f"of that name: bring the store back, or newsdesk models promote {number} where only the alias is gone, or "
            f"delete {file} to start anew with no champion to compare with"
        )


def find_apart(registry: Registry, serving: Path) -> str | None:
    """Returns in words how the files that servers follow differ from the registry; None where they do not.

    A move that was cut between two of its writes leaves them so.
    """
    try:
        said = read_aliases(serving / registry.name)
    except BadInputError as error:
        return str(error)
    wanted = _directories(registry)
    if said == wanted and is_settled(serving):
        return None
    theirs, ours = (json.dumps(item, sort_keys=True) for item in (wanted, said))
    return (
        f"of {registry.name} MLflow says {theirs}, {ALIASES_FILE} says {ours}, and {MODELS_CONFIG} "
        f"{'the same' if is_settled(serving) else 'something else'}, as after a promotion that was cut: "
        "newsdesk doctor --mark writes both files as MLflow has it"
    )


def settle(registry: Registry, serving: Path) -> None:
    """Writes the files anew as the registry has it.

    Raises:
        BadInputError: The registry has lost the champion that serves, or the store does not answer.
    """
    with _moving(serving / registry.name):
        check_not_lost(registry, serving / registry.name)
        _settle(registry, serving)


def _pushed(registry: Registry, serving: Path, version: int) -> RegisteredVersion:
    found = registry.with_tag(SERVING_VERSION, str(version))
    directory = serving / registry.name / str(version)
    if found is None and directory.is_dir():
        raise BadInputError(
            f"version {version} of {registry.name} is at {directory}, but MLflow's registry does not have it: it or "
            "the registered model was deleted there, or the store was replaced; newsdesk run registers a model anew"
        )
    if found is None:
        raise BadInputError(f"no version {version} of {registry.name} was pushed: newsdesk models list shows those")
    if not directory.is_dir():
        raise BadInputError(f"version {version} of {registry.name} is no longer at {directory}: choose another")
    verify(directory)
    return found


def _settle(registry: Registry, serving: Path) -> dict[str, int]:
    """Takes every other alias from the champion, writes the files, and returns alias to directory."""
    champion = registry.with_alias(CHAMPION)
    for alias in champion.aliases if champion else ():
        if alias != CHAMPION:
            registry.point(alias, None)
    aliases = _directories(registry)
    write_aliases(serving, registry.name, aliases)
    return aliases


def _directories(registry: Registry) -> dict[str, int]:
    """Returns alias to directory."""
    pointed = [(alias, item.serving_version) for item in registry.versions() for alias in item.aliases]
    return {alias: number for alias, number in pointed if number is not None}


@contextmanager
def _moving(base: Path) -> Iterator[None]:
    if not base.is_dir():
        raise BadInputError(f"nothing has been pushed to {base}: newsdesk run pushes the first version")
    with locked(base, ALIASES_LOCK):
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
