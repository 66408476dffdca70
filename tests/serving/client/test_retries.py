"""What is tried again, when, and how often."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from rest_desk import TOKEN, Desk, Reply, expected

from serving.client.rest import Client
from serving.client.retry import Retry
from serving.errors import Code, RequestError


@pytest.mark.parametrize("status", [429, 503, 504])
def test_what_may_pass_is_tried_again_after_growing_waits(
    connect: Callable[..., Client], desk: Desk, waits: list[float], status: int
) -> None:
    desk.replies = [Reply(status, b'{"error": "busy"}')] * 3
    assert connect().predict(["ab"]) == [expected("ab")]
    assert waits == [0.1, 0.2, 0.4]
    assert len({asked.body for asked in desk.asked}) == 1
    assert len(desk.asked) == 4


def test_a_bound_number_of_times(connect: Callable[..., Client], desk: Desk, waits: list[float]) -> None:
    desk.replies = [Reply(503, b'{"error": "busy"}')] * 9
    with pytest.raises(RequestError) as raised:
        connect(retries=2).predict(["ab"])
    assert (raised.value.code, raised.value.message) == (Code.UNAVAILABLE, "busy")
    assert len(desk.asked) == 3
    assert len(waits) == 2


def test_a_dropped_connection_is_tried_again(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(drop=True), Reply(body=b'{"predictions": []}', cut=5)]
    assert connect().predict(["ab"]) == [expected("ab")]
    assert len(desk.asked) == 3


def test_a_server_that_is_not_there_is_said_so(connect: Callable[..., Client], desk: Desk, waits: list[float]) -> None:
    desk.shutdown()
    desk.server_close()
    with pytest.raises(RequestError, match=f"{desk.url} cannot be reached: Connection refused") as raised:
        connect(token=TOKEN).predict(["ab"])
    assert raised.value.code is Code.UNAVAILABLE
    assert len(waits) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Code.INVALID_ARGUMENT),
        (401, Code.UNAUTHENTICATED),
        (404, Code.NOT_FOUND),
        (413, Code.TOO_LARGE),
        (500, Code.INTERNAL),
        (418, Code.UNKNOWN),
    ],
)
def test_what_will_not_pass_is_not_tried_again(
    connect: Callable[..., Client], desk: Desk, waits: list[float], status: int, code: Code
) -> None:
    desk.replies = [Reply(status, b'{"error": "Servable not found"}', {"Retry-After": "1"})]
    with pytest.raises(RequestError, match="Servable not found") as raised:
        connect(token=TOKEN).predict(["ab"])
    assert raised.value.code is code
    assert TOKEN not in repr(raised.value)
    assert (len(desk.asked), waits) == (1, [])


def test_a_refusal_stops_the_requests_that_would_follow(connect: Callable[..., Client], desk: Desk) -> None:
    desk.replies = [Reply(400, b'{"error": "no"}')]
    with pytest.raises(RequestError):
        connect().predict(["a"] * 300)
    assert len(desk.asked) == 1


def test_the_wait_that_a_server_asks_for_is_kept(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    desk.replies = [Reply(429, b"{}", {"Retry-After": value}) for value in ("2", then, "soon")]
    connect().predict(["ab"])
    assert waits[0] == 2.1
    assert 18 < waits[1] <= 20.2
    assert waits[2] == 0.4


def test_a_wait_that_is_too_long_is_for_the_caller(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    desk.replies = [Reply(429, b'{"error": "queue is full"}', {"Retry-After": "3600"})]
    with pytest.raises(RequestError, match="queue is full") as raised:
        connect().predict(["ab"])
    assert (raised.value.code, raised.value.retry_after, waits) == (Code.RESOURCE_EXHAUSTED, 3600, [])


def test_a_reply_that_does_not_come_is_not_asked_for_again(
    connect: Callable[..., Client], desk: Desk, waits: list[float]
) -> None:
    desk.replies = [Reply(seconds=5)]
    with pytest.raises(RequestError, match=r"did not answer within 0\.2 s") as raised:
        connect(timeout=0.2).predict(["ab"])
    assert raised.value.code is Code.DEADLINE_EXCEEDED
    assert (len(desk.asked), waits) == (1, [])


def test_drawn_waits_stay_between_nothing_and_the_bound(desk: Desk, waits: list[float]) -> None:
    desk.replies = [Reply(503)] * 60
    with Client(desk.url, retry=Retry(50, sleep=waits.append)) as client, pytest.raises(RequestError):
        client.predict(["ab"])
    bounds = [min(0.1 * 2**number, 30.0) for number in range(50)]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))
    assert len(set(waits)) == 50
    assert max(waits) > 15


def test_retries_are_not_negative() -> None:
    with pytest.raises(ValueError, match="-1"):
        Retry(-1)
