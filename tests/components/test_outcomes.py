"""Words and exit codes that scripts of others go by."""

import pytest

from components.outcomes import NodeState, Outcome, Standing

CODES = {
    "pushed": 0,
    "yes": 0,
    "no": 0,
    "failed": 1,
    "started": 1,
    "killed": 1,
    "stopped": 1,
    "decided": 1,
    "unread": 1,
    "bad input": 2,
    "rejected": 3,
    "refused": 3,
}


def test_every_outcome_has_its_exit_code() -> None:
    assert {str(outcome): outcome.exit_code for outcome in Outcome} == CODES


@pytest.mark.parametrize("outcome", Outcome)
def test_a_status_is_the_outcome_but_for_bad_input(outcome: Outcome) -> None:
    assert outcome.status == ("failed" if outcome == "bad input" else outcome)


def test_only_a_node_that_ran_or_was_cached_is_finished() -> None:
    assert {str(state): state.finished for state in NodeState} == {
        "waiting": False,
        "running": False,
        "ran": True,
        "cached": True,
        "failed": False,
        "skipped": False,
    }


def test_the_registry_keeps_these_words() -> None:
    assert {str(standing) for standing in Standing} == {"pending", "approved", "rejected", "rolled back"}
