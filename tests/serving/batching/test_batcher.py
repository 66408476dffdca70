"""Requests share batches, and nothing of each other."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_models import FakeModel, version_of

from serving.batching.batcher import Batcher
from serving.errors import Code, RequestError
from serving.repository.versions import Version

SIGNATURE = "serving_default"


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(**settings)
    batcher.start()
    try:
        yield batcher
    finally:
        batcher.stop()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


async def busy(batcher: Batcher, version: Version, model: FakeModel) -> "asyncio.Future[Any]":
    """Has the model at work on a text of its own, so that what follows waits."""
    model.gate.clear()
    task = batcher.submit(version, SIGNATURE, [b"first"])
    while not model.asked.is_set():
        await asyncio.sleep(0.001)
    return task


def test_a_lone_request_goes_at_once_and_those_that_came_meanwhile_go_together() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        ran: list[tuple[str, int]] = []
        async with running(ran=lambda name, rows, seconds: ran.append((name, rows))) as batcher:
            first = await busy(batcher, version, model)
            others = [batcher.submit(version, SIGNATURE, [b"x" * n]) for n in range(5)]
            await asyncio.sleep(0.02)
            assert batcher.queue_rows == 5
            model.gate.set()
            answers = await asyncio.gather(first, *others)
            assert [answer.label_ids.tolist() for answer in answers] == [[1], [0], [1], [2], [3], [0]]
            assert [len(batch) for batch in model.batches] == [1, 5]
            assert ran == [("ag_news", 1), ("ag_news", 5)]
            assert batcher.queue_rows == 0

    run(test)


def test_requests_of_many_rows_get_their_own_rows_back() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(max_rows=64) as batcher:
            first = await busy(batcher, version, model)
            texts = [[b"x" * (n + k) for k in range(n + 1)] for n in range(6)]
            others = [batcher.submit(version, SIGNATURE, part) for part in texts]
            await asyncio.sleep(0.02)
            model.gate.set()
            await first
            for part, task in zip(texts, others, strict=True):
                answers = await task
                assert answers.label_ids.tolist() == [len(text) % 4 for text in part]
                assert answers.probabilities.shape == (len(part), 4)
                assert len(answers.labels) == len(part)
            assert len(model.batches) == 2

    run(test)


def test_full_batches_hold_texts_of_similar_length() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(max_rows=4) as batcher:
            first = await busy(batcher, version, model)
            lengths = [90, 1, 60, 2, 91, 61, 3, 92, 62, 4, 93, 63]
            others = [batcher.submit(version, SIGNATURE, [b"x" * n]) for n in lengths]
            await asyncio.sleep(0.02)
            model.gate.set()
            answers = await asyncio.gather(*others)
            await first
            assert [answer.label_ids[0] for answer in answers] == [n % 4 for n in lengths]
            found = [[len(text) for text in batch] for batch in model.batches[1:]]
            assert found == [[1, 2, 3, 4], [60, 61, 62, 63], [90, 91, 92, 93]]

    run(test)


def test_a_long_text_waits_for_no_more_than_one_plan() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(max_rows=2) as batcher:
            first = await busy(batcher, version, model)
            lengths = [1000] + [1] * 20
            others = [batcher.submit(version, SIGNATURE, [b"x" * n]) for n in lengths]
            await asyncio.sleep(0.02)
            model.gate.set()
            await asyncio.gather(first, *others)
            served = [[len(text) for text in batch] for batch in model.batches[1:]]
            assert [1000 in batch for batch in served].index(True) < 4

    run(test)


def test_versions_and_signatures_do_not_share_a_batch() -> None:
    async def test() -> None:
        model, other = FakeModel(), FakeModel(shift=1)
        version, second = version_of(model), version_of(other, 2)
        async with running() as batcher:
            first = await busy(batcher, version, model)
            asked = [(version, SIGNATURE), (second, SIGNATURE), (version, "serve_examples"), (second, SIGNATURE)]
            others = [batcher.submit(*each, [b"abc"]) for each in asked]
            await asyncio.sleep(0.02)
            model.gate.set()
            answers = await asyncio.gather(first, *others)
            assert [answer.label_ids[0] for answer in answers] == [1, 3, 0, 3, 0]
            assert [len(batch) for batch in model.batches] == [1, 1, 1]
            assert [len(batch) for batch in other.batches] == [2]

    run(test)


def test_a_bad_text_is_refused_alone() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running() as batcher:
            first = await busy(batcher, version, model)
            others = [batcher.submit(version, SIGNATURE, [text]) for text in (b"a", b"bad", b"bb")]
            await asyncio.sleep(0.02)
            model.gate.set()
            await first
            good, bad, fine = await asyncio.gather(*others, return_exceptions=True)
            assert isinstance(bad, RequestError)
            assert (bad.code, bad.message) == (Code.INVALID_ARGUMENT, "a bad text")
            assert not isinstance(good, BaseException)
            assert not isinstance(fine, BaseException)
            assert (good.label_ids[0], fine.label_ids[0]) == (1, 2)

    run(test)


def test_what_a_model_dies_of_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with running() as batcher:
            with pytest.raises(RequestError) as raised:
                await batcher.submit(version_of(FakeModel()), SIGNATURE, [b"broken"])
            assert raised.value.code is Code.INTERNAL
            assert "secret" not in raised.value.message
            assert (await batcher.submit(version_of(FakeModel()), SIGNATURE, [b"abc"])).label_ids[0] == 3

    run(test)
    assert "a secret of the model" in caplog.text


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(max_rows=4, max_queue_rows=8) as batcher:
            first = await busy(batcher, version, model)
            others = [batcher.submit(version, SIGNATURE, [b"a", b"b"]) for _ in range(4)]
            await asyncio.sleep(0.02)
            with pytest.raises(RequestError) as raised:
                await batcher.submit(version, SIGNATURE, [b"c"])
            assert raised.value.code is Code.RESOURCE_EXHAUSTED
            assert raised.value.retry_after is not None
            assert 1 <= raised.value.retry_after <= 60
            model.gate.set()
            await asyncio.gather(first, *others)
            assert (await batcher.submit(version, SIGNATURE, [b"c"])).label_ids[0] == 1

    run(test)


@pytest.mark.parametrize("position", ["running", "waiting"])
def test_a_request_is_refused_in_time_wherever_it_is(position: str) -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(timeout=0.5) as batcher:
            first = await busy(batcher, version, model)
            second = batcher.submit(version, SIGNATURE, [b"never asked"])
            asked = first if position == "running" else second
            loop = asyncio.get_running_loop()
            # What the same loop was to do later comes later, on a busy machine too.
            refused = loop.create_future()
            loop.call_later(1.2, lambda: refused.set_result(asked.done()))
            with pytest.raises(RequestError) as raised:
                await asked
            assert raised.value.code is Code.DEADLINE_EXCEEDED
            assert await refused
            await asyncio.gather(first, second, return_exceptions=True)
            model.gate.set()
            assert (await batcher.submit(version, SIGNATURE, [b"abc"])).label_ids[0] == 3
            # What nobody waits for any more is not computed.
            assert model.batches == [[b"first"], [b"abc"]]
            assert batcher.queue_rows == 0

    run(test)


def test_an_abandoned_request_is_not_computed() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running() as batcher:
            first = await busy(batcher, version, model)
            gone = batcher.submit(version, SIGNATURE, [b"gone"])
            stays = batcher.submit(version, SIGNATURE, [b"stays"])
            await asyncio.sleep(0.02)
            gone.cancel()
            await asyncio.sleep(0.02)
            model.gate.set()
            await asyncio.gather(first, stays)
            assert model.batches == [[b"first"], [b"stays"]]

    run(test)


def test_a_request_that_is_abandoned_when_it_is_planned_is_not_computed() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        async with running(max_rows=1) as batcher:
            first = await busy(batcher, version, model)
            second = FakeModel()
            tasks = [
                batcher.submit(each, SIGNATURE, [text])
                for each, text in ((version_of(second), b"a"), (version, b"gone"), (version, b"stays"))
            ]
            await asyncio.sleep(0.02)
            second.gate.clear()
            model.gate.set()
            while not second.asked.is_set():
                await asyncio.sleep(0.001)
            tasks[1].cancel()
            await asyncio.sleep(0.02)
            second.gate.set()
            await asyncio.gather(first, tasks[0], tasks[2])
            assert model.batches == [[b"first"], [b"stays"]]

    run(test)


def test_company_is_waited_for_only_where_there_is_traffic() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        # Nothing here outlasts such a wait.
        async with running(max_rows=4, max_wait_ms=600_000, timeout=600) as batcher:
            await batcher.submit(version, SIGNATURE, [b"alone"])
            await batcher.submit(version, SIGNATURE, [b"alone again"])
            first = await busy(batcher, version, model)
            pair = [batcher.submit(version, SIGNATURE, [b"x"]) for _ in range(2)]
            await asyncio.sleep(0.02)
            model.gate.set()
            await asyncio.gather(first, *pair)
            late = batcher.submit(version, SIGNATURE, [b"waits"])
            await asyncio.sleep(0.05)
            assert not late.done()
            others = [batcher.submit(version, SIGNATURE, [b"y"]) for _ in range(3)]
            await asyncio.gather(late, *others)
            # Full, and so gone before its time.
            assert model.batches[-1] == [b"waits", b"y", b"y", b"y"]

    run(test)


def test_a_second_batch_runs_beside_the_first_where_batches_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.batching.batcher._LONG_SECONDS", 0.0)

    async def test() -> None:
        slow, quick = FakeModel(), FakeModel()
        async with running(threads=2) as batcher:
            await batcher.submit(version_of(quick, 2), SIGNATURE, [b"sets the pace"])
            first = await busy(batcher, version_of(slow), slow)
            assert (await batcher.submit(version_of(quick, 2), SIGNATURE, [b"abc"])).label_ids[0] == 3
            slow.gate.set()
            await first

    run(test)


def test_short_batches_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.batching.batcher._LONG_SECONDS", 10.0)

    async def test() -> None:
        slow, quick = FakeModel(), FakeModel()
        async with running(threads=2) as batcher:
            first = await busy(batcher, version_of(slow), slow)
            second = batcher.submit(version_of(quick, 2), SIGNATURE, [b"abc"])
            await asyncio.sleep(0.1)
            assert not second.done()
            slow.gate.set()
            await asyncio.gather(first, second)

    run(test)


def test_stopping_refuses_what_waits_and_ends_the_threads() -> None:
    async def test() -> None:
        model = FakeModel()
        version = version_of(model)
        before = threading.active_count()
        batcher = Batcher()
        batcher.start()
        first = await busy(batcher, version, model)
        second = batcher.submit(version, SIGNATURE, [b"late"])
        await asyncio.sleep(0.02)
        threading.Timer(0.1, model.gate.set).start()
        batcher.stop()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [getattr(result, "code", None) for result in results] == [Code.UNAVAILABLE, Code.UNAVAILABLE]
        assert model.batches == [[b"first"]]
        assert threading.active_count() == before

    run(test)
