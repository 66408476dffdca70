"""Alerts: to the log always, and to a webhook where the environment names one."""

import logging
from collections.abc import Mapping
from typing import Any

import requests

_log = logging.getLogger("newsdesk.retrain")


def alert(environment: Mapping[str, str], variable: str, seconds: float, event: str, facts: Mapping[str, Any]) -> bool:
    """Tells people; a webhook that does not answer is told to the log and stops nothing.

    Args:
        environment: Environment variables.
        variable: Name of the one with the webhook's URL, which is a secret and is never shown.
        seconds: Most that connecting, and each wait for an answer, may take.
        event: What happened, such as ``circuit_open``.
        facts: JSON values; ``text`` is a sentence, as chat services show it.

    Returns:
        Whether the webhook has taken it; False where there is none.
    """
    _log.error("%s: %s", event.replace("_", " "), facts["text"])
    url = environment.get(variable)
    if not url:
        _log.warning("nobody else is told: %s holds no URL of a webhook", variable)
        return False
    try:
        # A redirection could carry the alert to where nobody wanted it.
        answer = requests.post(url, json={"event": event, **facts}, timeout=seconds, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        # What these say holds the URL.
        _log.error(
            "the webhook of %s does not answer (%s): the alert stands in this log only", variable, type(error).__name__
        )
        return False
    if not 200 <= answer.status_code < 300:
        _log.error("the webhook of %s answers %d: the alert stands in this log only", variable, answer.status_code)
        return False
    return True
