"""A metadata store as TFX's launcher takes it."""

from typing import Any

from tfx.orchestration import metadata

from pipeline.metadata import MetadataPlace


def reach(place: MetadataPlace) -> metadata.Metadata:
    """Returns a handle to a store: TFX's own for a file, one that outlasts an outage for a server."""
    return _Patient(place) if place.server else metadata.Metadata(place.connection)


class _Patient(metadata.Metadata):
    def __init__(self, place: MetadataPlace):
        super().__init__(place.connection)
        self._place = place

    def __enter__(self) -> "_Patient":
        # TFX's own tries ten times within seconds, and its store does not outlast a lost connection.
        self._store: Any = self._place.open()
        self._users += 1
        return self
