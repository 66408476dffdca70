"""Reaches ML Metadata by URI."""

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from components.errors import BadInputError

SQLITE = "sqlite:///"


def connection(uri: str) -> metadata_store_pb2.ConnectionConfig:
    """Returns how to reach a metadata store.

    Args:
        uri: ``sqlite:///PATH``, four slashes for an absolute path.

    Raises:
        BadInputError: It is none.
    """
    if not uri.startswith(SQLITE) or not uri.removeprefix(SQLITE):
        raise BadInputError(
            f"a metadata store is sqlite:///PATH, not {uri.partition(':')[0]}: (orchestrator.metadata): name a file "
            "that all steps share"
        )
    return metadata.sqlite_metadata_connection_config(uri.removeprefix(SQLITE))
