"""The machine loses its power: unflushed data is lost, and everything starts again from the rest.

Skipped if no file system can be mounted; `make chaos CUT=1` (as root) does it in the middle of a run.
"""

from __future__ import annotations

import os
import uuid
from decimal import Decimal
from pathlib import Path

import pytest

from domain.messages import OrderIntent
from tests.chaos.harness import Rig, open_rig
from tests.chaos.harness_disk import PowerCutDisk, why_no_power_cut
from tests.chaos.test_failover import SYMBOL, entry, judged, start, until_at_exchange, until_closed, until_size
from tests.support.waiting import eventually


@pytest.fixture(scope="module", autouse=True)
def _where_power_can_be_cut() -> None:
    why_not = why_no_power_cut()
    if why_not is not None:
        pytest.skip(f"a power cut can't be tried here: it {why_not}")


def test_a_cut_takes_what_was_not_flushed(tmp_path: Path) -> None:
    """The disk keeps synced data, to the last byte, and neither a new file nor an overwritten part that was not."""
    disk = PowerCutDisk(tmp_path, disk_size=64, machine_size=32)
    disk.open()
    try:
        for _ in range(2):
            kept, lost = disk.machine / "kept", disk.machine / "lost"
            with kept.open("wb", buffering=0) as file:
                file.write(b"flushed")
                os.fsync(file.fileno())
                file.seek(0)
                file.write(b"NEITHER")
                lost.write_bytes(b"not flushed")
                disk.cut()
            disk.restore()
            assert kept.read_bytes() == b"flushed"
            assert not lost.exists()
    finally:
        disk.close()


async def arrived(rig: Rig, intent: OrderIntent) -> bool:
    """Whether the exchange has got the intent's order."""
    return any(entry["client_order_id"].startswith(intent.order_key) for entry in await rig.control.journal())


@pytest.mark.slow
async def test_what_was_open_when_the_power_went_is_sold_once_it_is_back(servers_folder: Path) -> None:
    """An open trade, a resting entry that fills during the cut and one whose order has just arrived, unanswered: none
    is lost, none is doubled, and a stop that was reached meanwhile is sold.
    """
    data = servers_folder / f"cut-{uuid.uuid4().hex[:6]}"
    async with open_rig(data, [SYMBOL], workers=["worker-a"], power_cut=True) as rig:
        held, resting, young = entry(), entry(limit_price="99.50"), entry()
        await start(rig, held)
        await until_size(rig, held, "1")
        await start(rig, resting)
        order_id = await until_at_exchange(rig, resting)
        await rig.control.fault("accepted_silent", "POST /orders", delay=20)
        await start(rig, young)
        # The mark that it was sent doesn't wait for the disk: the cut is before the mark is there.
        await eventually(lambda: arrived(rig, young), every=0.01, what="the order has arrived")
        await rig.cut_power(0.5, in_the_dark=rig.control.fill(order_id, "1"))
        await until_size(rig, resting, "1")
        await until_size(rig, young, "1")
        await rig.price(SYMBOL, Decimal(94))
        for intent in (held, resting, young):
            await until_closed(rig, intent)
        await judged(rig, held, resting, young)
