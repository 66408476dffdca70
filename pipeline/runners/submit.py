"""Hands a compiled run, or a schedule of runs, to Kubeflow Pipelines or Vertex AI.

Credentials come from where their own clients look: ``KF_PIPELINES_SA_TOKEN_PATH`` or ``KF_PIPELINES_IAP_*`` and their
kin, and Google's application default credentials.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import BadInputError, check_address, nearest
from pipeline.config.config import Config
from pipeline.runners.parameters import parameters_of, slug
from pipeline.schedule.cron import Cron

ENDPOINT, TOKEN_PATH = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"
_PROJECTS = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
Arguments = dict[str, str | int | float | bool]
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_YES_NO = {"true": True, "false": False}


@dataclass(frozen=True)
class Submitted:
    """What was handed over.

    Attributes:
        name: The target's own id of the run or schedule.
        shown_at: Address of its page; None where the target does not say.
        replaced: Ids of schedules that were deleted for it.
    """

    name: str
    shown_at: str | None = None
    replaced: tuple[str, ...] = ()


def read_arguments(config: Config, assignments: Iterable[str]) -> Arguments:
    """Returns the values of the configuration's parameters that ``NAME=VALUE`` assigns.

    Raises:
        BadInputError: There is no such parameter, or the value is of another type.
    """
    known = {item.name: item.default for item in parameters_of(config)}
    values: Arguments = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise BadInputError(f"--param takes NAME=VALUE, not {assignment!r}")
        if name not in known:
            raise BadInputError(f"there is no parameter {name!r}: did you mean {nearest(name, known)!r}?")
        check_address(f"parameter {name}", text, "leave it to the secrets of the steps")
        kind = type(known[name])
        read: Callable[[str], Any] = _YES_NO.__getitem__ if kind is bool else kind
        try:
            values[name] = read(text)
        except (KeyError, ValueError) as error:
            raise BadInputError(f"parameter {name} must be {kind.__name__}, not {text!r}") from error
    return values


def submit_kubeflow(
    text: str, config: Config, arguments: Arguments, scheduled: bool, replace: bool, environment: Mapping[str, str]
) -> Submitted:
    """Starts a run on Kubeflow Pipelines, or a recurring one at the times of ``schedule.cron``.

    A recurring run makes one run at a time and, after an outage, one for all times that have passed.

    Args:
        text: The compiled pipeline.
        config: Settings.
        arguments: Values of parameters.
        scheduled: Whether to make a recurring run.
        replace: Whether to delete recurring runs of the same name, once the new one stands.
        environment: Environment variables.

    Raises:
        BadInputError: The server is not named, does not answer or refuses; the cron does not fit its time zone; or
            there is such a recurring run already.
    """
    settings = config.orchestrator
    host = settings.endpoint or environment.get(ENDPOINT)
    if not host:
        raise BadInputError(f"there is no address of Kubeflow Pipelines: set {ENDPOINT}, or orchestrator.endpoint")
    check_address(f"the address in {ENDPOINT}", host, f"name a token's file in {TOKEN_PATH}")
    cron = Cron(config.schedule.cron, config.schedule.time_zone).kubeflow(settings.server_time_zone)
    name = slug(config.name)
    import kfp_server_api
    from kfp import client as kfp_client
    from urllib3.exceptions import HTTPError

    with _told("Kubeflow Pipelines", host, (kfp_server_api.ApiException, HTTPError)), _file(text) as path:
        credentials = kfp_client.ServiceAccountTokenVolumeCredentials() if environment.get(TOKEN_PATH) else None
        client = kfp_client.Client(host=host, namespace=settings.namespace or "kubeflow", credentials=credentials)
        experiment = client.create_experiment(name, namespace=settings.namespace).experiment_id
        if not scheduled:
            run = client.create_run_from_pipeline_package(
                str(path),
                arguments=arguments,
                run_name=name,
                experiment_id=experiment,
                enable_caching=False,
                service_account=settings.service_account,
            )
            return Submitted(run.run_id, f"{host.rstrip('/')}/#/runs/details/{run.run_id}")
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        found = client.list_recurring_runs(
            page_size=100,
            experiment_id=experiment,
            namespace=settings.namespace,
            filter=json.dumps({"predicates": [predicate]}),
        )
        old = [item.recurring_run_id for item in found.recurring_runs or [] if item.display_name == name]
        _check_alone(old, name, replace)
        made = client.create_recurring_run(
            experiment,
            name,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=arguments,
            pipeline_package_path=str(path),
            enable_caching=False,
            service_account=settings.service_account,
        )
        for number in old:
            client.delete_recurring_run(number)
        shown = f"{host.rstrip('/')}/#/recurringrun/details/{made.recurring_run_id}"
        return Submitted(made.recurring_run_id, shown, tuple(old))


def submit_vertex(
    text: str, config: Config, arguments: Arguments, scheduled: bool, replace: bool, environment: Mapping[str, str]
) -> Submitted:
    """Starts a run on Vertex AI, or a schedule of them at the times of ``schedule.cron``.

    A schedule makes one run at a time and leaves out the times that pass meanwhile. Arguments are those of
    ``submit_kubeflow``.

    Raises:
        BadInputError: The project is not named; there are no credentials; Vertex does not answer or refuses; or there
            is such a schedule already.
    """
    settings = config.orchestrator
    project = settings.project or next((environment[name] for name in _PROJECTS if environment.get(name)), None)
    if not project:
        raise BadInputError("there is no Google Cloud project: set GOOGLE_CLOUD_PROJECT, or orchestrator.project")
    name = slug(config.name)
    import google.auth
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud import aiplatform
    from requests.exceptions import RequestException

    where = f"{project}, {settings.region}"
    with _told("Vertex AI", where, (GoogleAPIError, GoogleAuthError, RequestException)), _file(text) as path:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        aiplatform.init(
            project=project,
            location=settings.region,
            credentials=credentials,
            api_endpoint=settings.endpoint,
            api_transport="rest",
        )
        job = aiplatform.PipelineJob(
            display_name=name, template_path=str(path), pipeline_root=settings.bucket, parameter_values=arguments
        )
        if not scheduled:
            job.submit(service_account=settings.service_account)
            return Submitted(job.resource_name)
        old = aiplatform.PipelineJobSchedule.list(filter=f'display_name="{name}"')
        _check_alone([item.resource_name for item in old], name, replace)
        made = job.create_schedule(
            cron=Cron(config.schedule.cron, config.schedule.time_zone).vertex(),
            display_name=name,
            max_concurrent_run_count=1,
            allow_queueing=False,
            service_account=settings.service_account,
        )
        replaced = tuple(item.resource_name for item in old)
        for item in old:
            item.delete()
        return Submitted(made.resource_name, replaced=replaced)


def _check_alone(old: list[str], name: str, replace: bool) -> None:
    if old and not replace:
        raise BadInputError(
            f"there is a schedule {name} already ({', '.join(old)}): --replace puts the new one in its place"
        )


@contextmanager
def _told(target: str, where: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        # An answer's headers and body may repeat what was sent with it.
        code, reason = getattr(error, "status", None) or getattr(error, "code", None), getattr(error, "reason", "")
        what = f"{code} {reason}".strip() if code else f"{type(error).__name__} {reason}".strip()
        raise BadInputError(
            f"{target} at {where} does not answer or refuses ({what}): check the address, the credentials in the "
            "environment, and that the service runs"
        ) from error


@contextmanager
def _file(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pipeline.yaml"
        path.write_text(text, encoding="utf-8")
        yield path
