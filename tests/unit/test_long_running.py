"""Endless work ends when it is cancelled."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities.long_running import every, hinted, until_shutdown


@pytest.mark.parametrize("steps", range(8))
async def test_a_cancel_that_comes_together_with_a_hint_is_not_forgotten(steps: int) -> None:
    """Work that waits for hints forever ends when it is cancelled, however close together the two are."""
    hint, reached = asyncio.Event(), asyncio.Event()

    async def nothing() -> None:
        reached.set()

    async def for_ever() -> None:
        while True:
            hint.clear()
            reached.set()
            await hinted(hint, 60)

    for work in (for_ever(), every(60, nothing, hint=hint)):
        reached.clear()
        task = asyncio.create_task(work)
        await reached.wait()
        await asyncio.sleep(0)
        hint.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "it goes on"
        assert task.cancelled()


async def test_a_hint_is_told_from_its_absence() -> None:
    """True if a hint was given in time, else False."""
    hint = asyncio.Event()
    assert not await hinted(hint, 0.01)
    hint.set()
    assert await hinted(hint, 60)


async def test_a_shutdown_hands_over_without_being_a_failure() -> None:
    """The attempt ends retryably, so that another worker continues; as nothing failed, no traceback is logged."""
    environment, cleaned = ActivityEnvironment(), asyncio.Event()

    async def for_ever() -> None:
        try:
            environment.worker_shutdown()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    with pytest.raises(ApplicationError, match="another one continues") as ended:
        await environment.run(until_shutdown, for_ever())
    assert cleaned.is_set()
    assert (ended.value.type, ended.value.non_retryable) == ("WORKER_SHUTDOWN", False)
    assert ended.value.category is ApplicationErrorCategory.BENIGN
