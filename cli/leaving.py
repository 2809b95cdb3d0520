"""What `bottrader up` reports about the ledger when it starts and stops, within a time limit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

__all__ = ["ledger_check", "left_behind", "left_sentences"]

_PATIENCE_S = 2.0
_SYMBOLS_SHOWN = 8


async def left_behind(dsn: str, account: str, *, paper: bool) -> list[str]:
    """What is no longer watched once the workers stop, and what rests at the exchange: a few sentences, or none.

    Takes at most about two seconds, even if the database hangs.
    """
    import asyncio

    import asyncpg

    from activities.leases import DATABASE_TROUBLE
    from web.views.running import what_is_left

    try:
        async with asyncio.timeout(_PATIENCE_S):
            connection = await asyncpg.connect(dsn, timeout=_PATIENCE_S)
            try:
                row = await what_is_left(connection, account)
            finally:
                connection.terminate()
    except DATABASE_TROUBLE:
        return ["The number of open trades is not known (the database does not answer); none is watched any more."]
    return left_sentences(row, paper=paper)


def left_sentences(row: "Mapping[str, object]", *, paper: bool) -> list[str]:
    """The sentences for the symbols of open trades (one each), and counts of what rests."""
    symbols: Sequence[str] = row["trades"] or ()  # type: ignore[assignment]
    protected, protections, others = (int(str(row[name])) for name in ("protected", "protections", "others"))
    found = []
    if symbols:
        named = sorted(set(symbols))
        shown = ", ".join(named[:_SYMBOLS_SHOWN]) + (" …" if len(named) > _SYMBOLS_SHOWN else "")
        are = "open trade is" if len(symbols) == 1 else "open trades are"
        found.append(
            f"{len(symbols)} {are} no longer watched ({shown}): their stops are not acted on until it runs again."
        )
    if (symbols or others) and paper:
        found.append("The paper exchange stops too, so nothing happens there in the meantime.")
    elif symbols or others:
        trades = f" for {_count(protected, 'trade')}" if protections else ""
        resting = f"{_count(protections, 'protection order', trades)} and {_count(others, 'other order')}"
        end = "; their fills in the meantime are not watched either." if others else "."
        found.append(f"At the exchange rest {resting}{end}")
    return found


def _count(number: int, what: str, more: str = "") -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}{more}"


async def ledger_check(dsn: str, account: str, since: "datetime", *, within_s: float = 120.0) -> str | None:
    """The result of the ledger's check at this start; None if it is not ready in time."""
    import asyncio

    import asyncpg

    from activities.leases import DATABASE_TROUBLE
    from web.views.running import newest_check

    try:
        async with asyncio.timeout(within_s):
            connection = await asyncpg.connect(dsn, timeout=5)
            try:
                while (row := await newest_check(connection, account, since)) is None:  # noqa: ASYNC110 - in the database
                    await asyncio.sleep(0.5)
            finally:
                connection.terminate()
    except DATABASE_TROUBLE:
        return None
    if row["ok"]:
        return f"The ledger was checked in {row['seconds']:.1f} s: no violations."
    many = _count(row["violations"], "violation")
    return f"The ledger was checked: {many} found; `bottrader ledger verify` shows them."
