"""Stamps in a real ledger: what is stamped by whom, and that a second process finds the first one's stamps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from activities.database import create_pool
from activities.identity import (
    Brought,
    arm,
    check_venue_account,
    disarm,
    establish,
    read_account,
    read_ledger,
    stamp_empty,
)
from domain.identity import WHAT_IT_HELD, IdentityError, Names, names_of
from exchange.coinbase.adapter import CoinbaseExchange
from exchange.coinbase.config import CoinbaseConfig
from exchange.paper.config import PaperConfig
from exchange.paper.server import PaperExchange
from exchange.port import Unavailable
from tests.support.fake_exchange import FakeExchange, order

_PAPER = Brought("paper", "main", "coinbase")
_LIVE = Brought("live", "main", "coinbase")


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def _an_order(pool: Any, exchange_order_id: str, at: datetime) -> None:
    """An order accepted by an exchange, from a ledger older than stamps."""
    key = f"{int(at.timestamp()):032x}"
    await pool.execute(
        """INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger, intent,
                               intent_digest, state, received_at)
           VALUES ($1, 'main', 'BTC-USD', 'BUY', 'ENTRY', 'LIMIT', 'manual', 'manual', 'manual', '{}', '', 'OPEN', $2)
        """,
        key,
        at,
    )
    await pool.execute(
        """INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, exchange_order_id)
           VALUES ($1 || '-1', $1, 1, 'main', 'BTC-USD', '{}', 'OPEN', $2)""",
        key,
        exchange_order_id,
    )


async def test_an_empty_ledger_takes_the_mode_of_who_comes_first_and_refuses_the_other(pool: Any) -> None:
    """In both directions: the second one writes nothing."""
    exchange = FakeExchange()
    stamped, account = await establish(pool, exchange, _LIVE)
    assert (stamped.mode, stamped.names) == ("live", names_of("live"))
    assert account.venue_account_id is None
    assert not account.armed
    with pytest.raises(IdentityError, match="This ledger is live"):
        await establish(pool, exchange, _PAPER)
    with pytest.raises(IdentityError, match="This ledger is live"):
        await stamp_empty(pool, _PAPER)
    assert (await read_ledger(pool)) == stamped


async def test_an_account_is_stamped_by_the_venues_id_and_another_key_is_refused(pool: Any) -> None:
    """The same id from another key passes; another id is refused, also in a later process."""
    exchange = FakeExchange(portfolio="p-1")
    await establish(pool, exchange, _PAPER)
    assert (await check_venue_account(pool, exchange, _PAPER)).venue_account_id == "p-1"
    await check_venue_account(pool, FakeExchange(portfolio="p-1"), _PAPER)
    with pytest.raises(IdentityError, match="use a key of the same account"):
        await check_venue_account(pool, FakeExchange(portfolio="p-2"), _PAPER)
    known = await read_account(pool, "main")
    assert known is not None
    assert known.venue_account_id == "p-1"


async def test_one_account_of_the_venue_has_one_name_in_a_ledger(pool: Any) -> None:
    """Two names would treat each other's buys as external: the second is refused, unless it has orders."""
    exchange = FakeExchange(portfolio="p-1")
    await establish(pool, exchange, Brought("paper", "first", "coinbase"))
    # As in an older ledger, where a further account could begin.
    await pool.execute("INSERT INTO account_identities (account, venue) VALUES ('second', 'coinbase')")
    await check_venue_account(pool, exchange, Brought("paper", "first", "coinbase"))
    with pytest.raises(IdentityError, match="is account first of this ledger already"):
        await check_venue_account(pool, exchange, Brought("paper", "second", "coinbase"))
    other = FakeExchange(portfolio="p-2")
    assert (await check_venue_account(pool, other, Brought("paper", "second", "coinbase"))).venue_account_id == "p-2"
    await pool.execute("INSERT INTO account_identities (account, venue) VALUES ('main', 'coinbase')")
    await _an_order(pool, "e-1", datetime.now(UTC))
    assert (await check_venue_account(pool, exchange, Brought("paper", "main", "coinbase"))).venue_account_id == "p-1"


async def test_a_ledger_of_before_is_stamped_by_the_venue_that_knows_its_orders(pool: Any) -> None:
    """Its names are the old ones, in live too, and its history begins with its first order."""
    first = datetime.now(UTC) - timedelta(days=40)
    await _an_order(pool, "x-1", first)
    exchange = FakeExchange()
    exchange.history["x-1"] = order("x-1", "anything")
    stamped, account = await establish(pool, exchange, _LIVE)
    assert (stamped.mode, stamped.stamped_by, stamped.names) == ("live", WHAT_IT_HELD, Names())
    assert account.first_start_at == first


async def test_a_ledger_of_before_is_not_given_to_a_venue_that_knows_none_of_its_orders(pool: Any) -> None:
    """A live start on paper's ledger is refused, nothing is stamped, and paper's own exchange is still accepted."""
    await _an_order(pool, "paper-1", datetime.now(UTC))
    with pytest.raises(IdentityError, match="knows none of the newest"):
        await establish(pool, FakeExchange(), _LIVE)
    assert await read_ledger(pool) is None
    paper = FakeExchange()
    paper.history["paper-1"] = order("paper-1", "anything")
    stamped, _ = await establish(pool, paper, _PAPER)
    assert stamped.mode == "paper"


async def test_a_ledger_of_before_waits_for_the_venue_and_a_stamped_one_does_not(pool: Any) -> None:
    """Only the venue can identify an old ledger; once stamped, the process starts without the venue."""
    await _an_order(pool, "x-1", datetime.now(UTC))
    exchange = FakeExchange()
    exchange.history["x-1"] = order("x-1", "anything")
    exchange.unavailable = True
    with pytest.raises(Unavailable):
        await establish(pool, exchange, _PAPER)
    exchange.unavailable = False
    await establish(pool, exchange, _PAPER)
    exchange.unavailable = True
    await establish(pool, exchange, _PAPER)


async def test_of_two_that_come_first_at_once_one_stamps_and_the_other_is_refused(pool: Any) -> None:
    """There is one stamp, and the loser is told so."""
    answers = await asyncio.gather(
        establish(pool, FakeExchange(), _PAPER), establish(pool, FakeExchange(), _LIVE), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, IdentityError)]
    assert len(refused) == 1
    stamped = await read_ledger(pool)
    assert stamped is not None
    assert f"This ledger is {stamped.mode}" in refused[0].sentence


async def test_arming_takes_a_turn_and_says_whether_it_changed_anything(pool: Any) -> None:
    """An entry that read the stamp before can't be written after; the second time nothing changes."""
    await establish(pool, FakeExchange(), _LIVE)
    async with pool.acquire() as connection:
        assert await arm(connection, "main", "ann")
        assert not await arm(connection, "main", "ben")
        account = await read_account(connection, "main")
        assert account is not None
        assert (account.armed, account.armed_by, account.disarmed_at) == (True, "ann", None)
        assert await disarm(connection, "main", "ben")
        assert not await disarm(connection, "main", "ben")
    assert await pool.fetchval("SELECT taken FROM admission_turns WHERE account = 'main'") == 2
    assert await pool.fetchval("SELECT count(*) FROM incidents WHERE kind LIKE 'LIVE_%'") == 2


async def test_the_paper_exchange_has_an_account_id_of_its_own_that_its_folder_keeps(tmp_path: Path) -> None:
    """All its keys give the same id after a restart; another paper exchange has another."""

    async def ids(folder: Path | None) -> set[str]:
        async with PaperExchange(PaperConfig(data_folder=folder)) as paper:
            keys = [paper.key_file, paper.keyring.ed25519_key_file, paper.keyring.view_key_file]
            found = set()
            for key_file in keys:
                exchange = CoinbaseExchange(
                    CoinbaseConfig(rest_address=paper.rest_address, key_file=key_file, ca_file=paper.ca_file)
                )
                found.add(await exchange.account_id())
                await exchange.close()
            return found

    first = await ids(tmp_path / "one")
    assert len(first) == 1
    assert await ids(tmp_path / "one") == first
    assert first.isdisjoint(await ids(tmp_path / "two"))
    assert first.isdisjoint(await ids(None))
