"""Every candidate becomes a version of the registry, whatever the gates will say of it."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_stores import make_store, out_of_order
from tfx.types import channel, standard_artifacts

from components.artifacts import Answers, DataProfile, Registration
from components.errors import BadInputError
from components.file_names import PREDICTIONS_FILE, PROFILE_FILE, REGISTRATION_FILE
from components.outcomes import Standing
from components.push.manifest import digest_of, hash_files, hash_model
from components.records import RegistrationRecord, read_registration, write_record
from components.registry.register import Executor, Register
from components.registry.registry import SERVING_VERSION, STATUS, Registry
from components.registry.spool import Spool
from components.registry.tracking import Store, start_run

NAME = "ag_news"


class Node:
    """The node on the outputs of the Trainer, of Answers and of DataGate."""

    def __init__(self, root: Path):
        self.root = root
        self.store: Store = make_store(root / "workspace")
        self.registry = Registry(self.store, NAME)
        self.client = MlflowClient(tracking_uri=self.store.uri, registry_uri=self.store.uri)
        self.served = root / "trained" / "Format-Serving"
        self.train("first weights")
        for name, file in (("answers", PREDICTIONS_FILE), ("profile", PROFILE_FILE)):
            (root / name).mkdir()
            (root / name / file).write_text(f"content of {file}")

    def train(self, weights: str) -> None:
        (self.served / "variables").mkdir(parents=True, exist_ok=True)
        (self.served / "saved_model.pb").write_text("graph")
        (self.served / "variables" / "variables.index").write_text(weights)

    def track(self, run: str) -> str:
        with start_run(self.store, NAME, run, Spool(self.root / "spool")) as tracked:
            tracked.tags({"model_family": "transformer", "data_digest": "d1"})
        return tracked.id

    def run(self, run: str, name: str = NAME) -> RegistrationRecord:
        """Runs the executor as the launcher does."""
        inputs = {}
        for key, kind in (("model", standard_artifacts.Model), ("answers", Answers), ("profile", DataProfile)):
            artifact = kind()
            artifact.uri = str(self.root / ("trained" if key == "model" else key))
            inputs[key] = [artifact]
        registration = Registration()
        registration.uri = str(self.root / f"registration-{run}")
        context = Executor.Context(tmp_dir=str(self.root), unique_id="1", pipeline_run_id=run)
        properties = {"name": name, "store": self.store.uri, "registry": "{}", "code_digest": "x"}
        Executor(context).Do(inputs, {"registration": [registration]}, properties)
        return read_registration(registration.uri)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_the_candidate_is_registered_with_the_run_that_trained_it(node: Node) -> None:
    run_id = node.track("run-1")
    node.track("run-2")
    record = node.run("run-1")
    digest = digest_of(hash_model(node.served))
    assert record == RegistrationRecord("1", run_id, digest, "pending", None)
    (found,) = node.registry.versions()
    assert (found.run_id, found.aliases, found.tags["model_family"]) == (run_id, (), "transformer")
    target = node.root / "target"
    target.mkdir()
    node.registry.download(found, target)
    assert hash_files(target / "model") == hash_files(node.served)
    assert (target / PREDICTIONS_FILE).read_text() == "content of predictions.npz"
    assert (target / PROFILE_FILE).read_text() == "content of profile.json"


def test_the_same_model_keeps_its_version_and_what_became_of_it(node: Node) -> None:
    first = node.track("run-1")
    node.run("run-1")
    node.registry.tag("1", {STATUS: Standing.ROLLED_BACK, SERVING_VERSION: "3"})
    node.track("run-2")
    record = node.run("run-2")
    assert (record.registry_version, record.mlflow_run_id) == ("1", first)
    assert (record.status, record.serving_version) == (Standing.ROLLED_BACK, "3")
    node.train("other weights")
    assert node.run("run-2").registry_version == "2"


def test_another_export_of_what_was_rolled_back_is_known(node: Node) -> None:
    """Training again without the cache learns the same, and writes another graph."""
    node.track("run-1")
    node.run("run-1")
    node.registry.tag("1", {STATUS: Standing.ROLLED_BACK, SERVING_VERSION: "3"})
    (node.served / "saved_model.pb").write_text("graph of another export")
    node.track("run-2")
    record = node.run("run-2")
    assert (record.registry_version, record.status, record.serving_version) == ("2", Standing.ROLLED_BACK, "3")
    node.registry.tag("1", {STATUS: Standing.APPROVED})
    assert node.run("run-2").status == Standing.PENDING
    node.registry.tag("1", {STATUS: Standing.ROLLED_BACK})
    node.train("other weights")
    assert node.run("run-2").status == Standing.PENDING


def test_a_store_that_is_away_registers_nothing_and_says_so(node: Node) -> None:
    node.track("run-1")
    with out_of_order(node.root / "workspace"), pytest.raises(BadInputError, match="does not answer or refuses"):
        node.run("run-1")
    assert not (node.root / "registration-run-1" / REGISTRATION_FILE).exists()
    assert node.registry.versions() == []
    assert node.run("run-1").registry_version == "1"


def test_a_run_that_mlflow_does_not_know_registers_nothing(node: Node) -> None:
    node.track("run-1")
    with pytest.raises(BadInputError, match="has no run run-2"):
        node.run("run-2")
    assert node.registry.versions() == []


def test_a_model_that_is_gone_registers_nothing(node: Node) -> None:
    node.track("run-1")
    for path in sorted(node.served.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(BadInputError, match="holds no files"):
        node.run("run-1")
    assert node.registry.versions() == []


def test_a_link_in_the_model_registers_nothing(node: Node, tmp_path: Path) -> None:
    """Whatever it leads to would be uploaded."""
    node.track("run-1")
    (tmp_path / "secret").write_text("a key")
    (node.served / "assets").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="no plain file"):
        node.run("run-1")
    assert node.registry.versions() == []
    assert not list((tmp_path / "workspace").rglob("secret"))


def test_the_record_survives_the_file(tmp_path: Path) -> None:
    record = RegistrationRecord("7", "run", "digest", "approved", "12")
    write_record(tmp_path, REGISTRATION_FILE, record)
    assert read_registration(tmp_path) == record


def test_the_run_is_no_part_of_what_the_cache_depends_on() -> None:
    made: Any = Register(
        model=channel.Channel(type=standard_artifacts.Model),
        answers=channel.Channel(type=Answers),
        profile=channel.Channel(type=DataProfile),
        name=NAME,
        store="sqlite://",
        registry='{"newest": null}',
        code_digest="x",
    )
    assert set(made.exec_properties) == {"name", "store", "registry", "code_digest"}
    assert made.outputs["registration"].type is Registration
