"""Promote: what was pushed becomes the champion, or the challenger."""

from pathlib import Path

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Promotion, Registration
from components.records import read_registration
from components.registry.promotion import promote
from components.registry.registry import SERVING_VERSION, Registry
from components.registry.tracking import Store


@component
def Promote(
    pushed_model: InputArtifact[standard_artifacts.PushedModel],
    registration: InputArtifact[Registration],
    promotion: OutputArtifact[Promotion],
    serving: Parameter[str],
    name: Parameter[str],
    alias: Parameter[str],
    store: Parameter[str],
    registry: Parameter[str],
    code_digest: Parameter[str],
) -> None:
    """Tells the registry where the candidate was pushed to, and points ``alias`` at it.

    ``registry`` is the state of the registry when the graph was made: an answer from the cache is never stale.
    """
    versions = Registry(Store(store, None), name)
    number = pushed_model.get_string_custom_property("pushed_version")
    versions.tag(read_registration(registration.uri).registry_version, {SERVING_VERSION: number})
    move = promote(versions, Path(serving), int(number), alias, registry)
    promotion.set_string_custom_property("sentence", move.sentence)
    promotion.set_string_custom_property("alias", alias)
