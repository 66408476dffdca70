"""What Beam is told for each engine, and what is refused before anything starts."""

import json
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from components.errors import BadInputError
from pipeline.cli import options
from pipeline.cli.asked import begin_arguments, configure
from pipeline.cli.main import cli
from pipeline.config import beam
from pipeline.config.beam import BeamConfig, beam_args, check_local
from pipeline.config.config import Config, override
from pipeline.config.presets import make_config
from pipeline.source_digest import work_digest

pytestmark = pytest.mark.stack

IMAGE = "registry.example/newsdesk@sha256:" + "a" * 64
FLINK = {"profile": "flink", "job_endpoint": "flink-jobs:8099"}
DATAFLOW = {"profile": "dataflow", "project": "p", "region": "europe-west4", "temp": "gs://bucket/temp"}


def configured(**settings: Any) -> Config:
    return override(make_config("sample"), {f"beam.{name}": str(value) for name, value in settings.items()})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {},
            [
                "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
                "--direct_running_mode=in_memory",
                "--direct_num_workers=1",
                "--sdk_container_image=in-process",
            ],
        ),
        (
            {**FLINK, "parallelism": 8, "options": json.dumps({"object_reuse": "true"})},
            [
                "--runner=PortableRunner",
                "--job_endpoint=flink-jobs:8099",
                "--environment_type=DOCKER",
                f"--sdk_container_image={IMAGE}",
                f"--environment_config={IMAGE}",
                "--parallelism=8",
                "--object_reuse=true",
            ],
        ),
        (
            {**FLINK, "job_endpoint": "localhost:8099", "workers": "loopback"},
            [
                "--runner=PortableRunner",
                "--job_endpoint=localhost:8099",
                "--environment_type=LOOPBACK",
                "--sdk_container_image=in-process",
            ],
        ),
        (
            {"profile": "spark", "job_endpoint": "jobs:8099", "workers": "external", "worker_pool": "localhost:50000"},
            [
                "--runner=PortableRunner",
                "--job_endpoint=jobs:8099",
                "--environment_type=EXTERNAL",
                "--sdk_container_image=in-process",
                "--environment_config=localhost:50000",
            ],
        ),
        (
            {**DATAFLOW, "image": "registry.example/workers:1", "options": json.dumps({"max_num_workers": "50"})},
            [
                "--runner=DataflowRunner",
                "--project=p",
                "--region=europe-west4",
                "--temp_location=gs://bucket/temp",
                "--staging_location=gs://bucket/temp",
                "--experiments=use_runner_v2",
                "--sdk_container_image=registry.example/workers:1",
                "--sdk_location=container",
                "--max_num_workers=50",
            ],
        ),
    ],
    ids=["in-memory", "flink", "loopback", "spark", "dataflow"],
)
def test_a_profile_gives_beams_options(settings: dict[str, Any], expected: list[str]) -> None:
    assert beam_args(configured(**settings).beam, IMAGE) == ["--pickle_library=cloudpickle", *expected]


@pytest.mark.parametrize("settings", [{}, FLINK, {**FLINK, "profile": "spark"}, DATAFLOW], ids=lambda item: str(item))
def test_beam_understands_them_and_tfx_builds_no_package(settings: dict[str, Any]) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
    from tfx.utils.dependency_utils import make_beam_dependency_flags

    given = beam_args(configured(**settings).beam, IMAGE)
    assert make_beam_dependency_flags(list(given)) == given
    parsed = PipelineOptions(given)
    known = parsed.get_all_options()
    for item in given:
        name, _, value = item.lstrip("-").partition("=")
        assert str(known[name]) in (value, f"['{value}']")
    if settings and settings is not DATAFLOW:
        from apache_beam.transforms.environments import DockerEnvironment

        assert DockerEnvironment.from_options(parsed.view_as(PortableOptions)).container_image == IMAGE


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"profile": "storm"}, "'in-memory', 'flink', 'spark' or 'dataflow', not 'storm'"),
        ({"profile": "flink"}, "the profile flink needs beam.job_endpoint: HOST:PORT of Beam's job server"),
        ({**FLINK, "job_endpoint": "http://jobs"}, "setting beam.job_endpoint: .*not 'http://jobs'"),
        ({name: value for name, value in DATAFLOW.items() if name != "temp"}, "dataflow needs beam.temp: gs://"),
        ({**DATAFLOW, "temp": "/tmp/here"}, "setting beam.temp: .*not '/tmp/here'"),
        ({**DATAFLOW, "region": "none"}, "needs beam.region: of Dataflow"),
        ({**DATAFLOW, "job_endpoint": "jobs:1"}, "beam.job_endpoint means nothing to the profile dataflow"),
        ({"job_endpoint": "jobs:1"}, "beam.job_endpoint means nothing to the profile in-memory: leave it out"),
        ({**FLINK, "profile": "spark", "parallelism": 2}, "beam.parallelism means nothing to the profile spark"),
        ({**FLINK, "workers": "external"}, "go together: set both or neither"),
        ({**FLINK, "worker_pool": "pool:1"}, "go together: set both or neither"),
        ({**FLINK, "workers": "loopback"}, "which only a job server at localhost can reach"),
        (
            {**FLINK, "job_endpoint": "localhost:1", "workers": "loopback", "image": "x"},
            "beam.image is for workers in containers",
        ),
        ({**FLINK, "options": '{"--runner": "x"}'}, "without dashes, not '--runner'"),
        ({**FLINK, "options": '{"runner": "x"}'}, "names runner, which beam.profile decides: set that"),
        ({**FLINK, "options": "x"}, "must be a JSON object"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence) as caught:
        configured(**settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("settings", [FLINK, {**FLINK, "profile": "spark"}, DATAFLOW])
def test_containers_need_an_image(settings: dict[str, Any]) -> None:
    found = configured(**settings).beam
    with pytest.raises(BadInputError, match=r"name it with beam.image, or orchestrator.image"):
        beam_args(found)
    assert f"--sdk_container_image={IMAGE}" in beam_args(found, IMAGE)


def test_a_run_from_here_cannot_be_dataflows() -> None:
    with pytest.raises(BadInputError, match="see no workspace on this machine"):
        check_local(configured(**DATAFLOW).beam, IMAGE)
    check_local(configured(**FLINK).beam, IMAGE)
    check_local(BeamConfig())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--beam", "dataflow"], "needs beam.project"),
        (["--beam", "flink", "--set", "beam.job_endpoint=jobs:1"], "name it with beam.image"),
        (["--set", "beam.profile=spark"], "needs beam.job_endpoint"),
    ],
)
def test_run_says_so_before_it_makes_a_workspace(tmp_path: Any, arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(cli, ["run", "--workspace", str(tmp_path / "w"), *arguments])
    assert isinstance(done.exception, BadInputError)
    assert sentence in str(done.exception)
    assert not (tmp_path / "w").exists()


def test_the_first_step_is_told_the_image_of_the_workers() -> None:
    settings = ("beam.profile=flink", "beam.job_endpoint=jobs:1", "orchestrator.claim=c")
    config = configure("sample", None, (*settings, f"orchestrator.image={IMAGE}"))
    told = begin_arguments("sample", settings, config)
    kept = [*settings[:2], f"beam.image={IMAGE}"]
    assert told == ["--preset", "sample", *(part for item in kept for part in ("--set", item))]
    in_step = override(make_config("sample"), dict(item.split("=", 1) for item in told[3::2]))
    assert beam_args(in_step.beam) == beam_args(config.beam, IMAGE)
    assert begin_arguments("sample", (), make_config("sample")) == ["--preset", "sample"]


def test_the_engine_is_no_part_of_what_a_model_depends_on() -> None:
    assert work_digest(configured(**FLINK)) == work_digest(configured())


def test_the_option_offers_every_profile() -> None:
    @options.beam_option
    def command(beam: str | None) -> None: ...

    (option,) = command.__click_params__  # type: ignore[attr-defined]
    assert tuple(option.type.choices) == get_args(beam.Profile) == tuple(beam._TAKES)
