"""No setting and no option takes a secret in an address, or repeats one that it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import BadInputError
from pipeline.config.config import flatten, override
from pipeline.config.presets import make_config
from pipeline.runners.submit import read_arguments, submit_kubeflow
from pipeline.workspace.metadata import MetadataPlace
from pipeline.workspace.place import Workspace
from pipeline.workspace.stores import find_stores
from serving.client.grpc import GrpcClient
from serving.client.rest import Client
from serving.config import ServerConfig
from serving.config import make_config as make_server

SECRET = "s3cr3t"
ADDRESSES = [
    "https://me:s3cr3t@host/a",
    "https://me:a/s3cr3t@host",
    "https://s3cr3t@host",
    "https://host/a?password=s3cr3t",
    "mysql://me:a/s3cr3t@db/mlmd",
    "gs://me:s3cr3t@bucket/a",
]
TEXTS = [key for key, value in flatten(make_config("sample")).items() if value is None or isinstance(value, str)]
CONFIG = make_config("sample")
KUBEFLOW = "KF_PIPELINES_ENDPOINT"


@pytest.mark.parametrize("key", TEXTS)
def test_settings(key: str) -> None:
    for address in ADDRESSES:
        for value in (address, json.dumps({"A": address}), f'{{"A": "{address}",}}'):
            with pytest.raises(BadInputError) as refused:
                override(CONFIG, {key: value})
            assert SECRET not in str(refused.value)


@pytest.mark.parametrize("key", [name for name in ServerConfig.model_fields if name != "model_dir"])
def test_settings_of_a_server(key: str) -> None:
    for address in ADDRESSES:
        with pytest.raises(BadInputError) as refused:
            make_server({"model_dir": Path(), key: address})
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "take",
    [
        lambda address: find_stores(Workspace(Path("/w")), {"MLFLOW_TRACKING_URI": address}),
        lambda address: MetadataPlace(address),
        lambda address: Workspace(Path(address)),
        lambda address: read_arguments(CONFIG, [f"data={address}"]),
        lambda address: submit_kubeflow("", CONFIG, {}, False, False, {KUBEFLOW: address}),
        lambda address: Client(address),
        lambda address: GrpcClient(address),
    ],
    ids=["tracking", "metadata", "workspace", "parameter", "kubeflow", "rest", "grpc"],
)
def test_addresses_from_elsewhere(take: Callable[[str], object], address: str) -> None:
    with pytest.raises(BadInputError) as refused:
        take(address)
    assert SECRET not in str(refused.value)


def test_a_refusal_says_where_the_secret_goes() -> None:
    for key, place in (
        ("stores.metadata", "set NEWSDESK_METADATA_PASSWORD"),
        ("stores.tracking", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        ("orchestrator.metadata", "name NEWSDESK_METADATA_PASSWORD in secrets"),
        ("bert.encoder", "keep it in the file that NETRC names"),
        ("data.directory", "secrets come from the environment"),
    ):
        with pytest.raises(BadInputError, match=f"^setting {key} holds a password: take it out and .*{place}"):
            override(CONFIG, {key: ADDRESSES[0]})
