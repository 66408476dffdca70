"""Brings secrets from Google Secret Manager into the environment: Vertex does not do it for a step."""

import base64
import re
from collections.abc import Iterable, MutableMapping

from components.errors import BadInputError

_PLACE = re.compile(r"projects/[a-z0-9:.-]+/secrets/[A-Za-z0-9_-]+/versions/[A-Za-z0-9_-]+")
_SERVICE = "https://secretmanager.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_SECONDS = 30


def bring_secrets(assignments: Iterable[str], environment: MutableMapping[str, str], service: str = _SERVICE) -> None:
    """Sets variables to the values of secrets, as the account that this process runs as may read them.

    Args:
        assignments: ``VARIABLE=projects/P/secrets/NAME/versions/V``.
        environment: To set.
        service: Address of Secret Manager.

    Raises:
        BadInputError: An assignment is none, or the secret cannot be read.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from requests.exceptions import RequestException

    for assignment in assignments:
        variable, _, place = assignment.partition("=")
        if not _PLACE.fullmatch(place):
            raise BadInputError(f"--secret takes {variable or 'VARIABLE'}=projects/P/secrets/NAME/versions/V")
        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
            answer = AuthorizedSession(credentials).get(f"{service}/v1/{place}:access", timeout=_SECONDS)
            answer.raise_for_status()
            environment[variable] = base64.b64decode(answer.json()["payload"]["data"]).decode()
        except (GoogleAuthError, RequestException, KeyError, ValueError) as error:
            raise BadInputError(
                f"secret {place} for {variable} cannot be read ({type(error).__name__}): let the step's service "
                "account access it"
            ) from error
