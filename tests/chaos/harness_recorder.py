"""A run's own records, so that protection can be judged afterwards: triggers in the ledger's database store every
change of leases, exit plans and fills with its time, and every price and clock setting is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

__all__ = ["Notes", "PriceNote", "install_recorder", "true_time"]

_RECORDER = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.leases (name text, epoch bigint, expires_at timestamptz, at timestamptz);
CREATE TABLE chaos.plans (entry_key text, symbol text, state text, quantity numeric, entry_price numeric,
                          at timestamptz);
CREATE TABLE chaos.fills (order_key text, exchange_order_id text, size numeric, at timestamptz);
CREATE FUNCTION chaos.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.leases VALUES (NEW.name, NEW.epoch, NEW.expires_at, clock_timestamp()); RETURN NULL; END $$;
CREATE FUNCTION chaos.note_plan() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.plans VALUES (NEW.entry_key, NEW.symbol, NEW.state, NEW.quantity, NEW.entry_price,
                                    clock_timestamp()); RETURN NULL; END $$;
CREATE FUNCTION chaos.note_fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.fills VALUES (NEW.order_key, NEW.exchange_order_id, NEW.size, clock_timestamp());
    RETURN NULL; END $$;
CREATE TRIGGER chaos_lease AFTER INSERT OR UPDATE ON leases FOR EACH ROW EXECUTE FUNCTION chaos.note_lease();
CREATE TRIGGER chaos_plan AFTER INSERT OR UPDATE ON exit_plans FOR EACH ROW EXECUTE FUNCTION chaos.note_plan();
CREATE TRIGGER chaos_fill AFTER INSERT ON fills FOR EACH ROW WHEN (NEW.origin = 'derived')
    EXECUTE FUNCTION chaos.note_fill();
"""


async def install_recorder(connection: Any) -> None:
    """Create the triggers in a migrated database of the run's own."""
    await connection.execute(_RECORDER)


@dataclass(frozen=True, slots=True)
class PriceNote:
    """From `at` on the best bid of `symbol` is `bid`, in quote currency."""

    at: datetime
    symbol: str
    bid: Decimal


@dataclass(slots=True)
class Notes:
    """The run's own actions at the exchange, with their times."""

    prices: list[PriceNote] = field(default_factory=list)
    skews: list[tuple[datetime, float]] = field(default_factory=list)
    outages: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Start and end of each process's outage, whichever process it was."""
    terminated: list[tuple[datetime, str]] = field(default_factory=list)
    """When the monitor of which entry was terminated by hand."""
    cuts: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Start and end of the machine's power cut, including its restart."""
    database_kills: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Start and end of PostgreSQL's outage, including its restart."""

    def price(self, symbol: str, bid: Decimal) -> None:
        """The market has moved."""
        self.prices.append(PriceNote(datetime.now(UTC), symbol, bid))

    def skew(self, seconds: float) -> None:
        """The exchange's clock is set."""
        self.skews.append((datetime.now(UTC), seconds))

    def outage(self, since: datetime) -> None:
        """A process that stopped at `since` has been started again."""
        self.outages.append((since, datetime.now(UTC)))

    def cut(self, since: datetime) -> None:
        """The machine that lost its power at `since` is up again, and its workers poll."""
        self.cuts.append((since, datetime.now(UTC)))


def true_time(exchange_time: datetime, skews: list[tuple[datetime, float]]) -> datetime:
    """Wall time of a moment stamped by the exchange's clock with its offset at that time."""
    best = exchange_time
    for place, (since, seconds) in enumerate(skews):
        moment = exchange_time - timedelta(seconds=seconds)
        until = skews[place + 1][0] if place + 1 < len(skews) else None
        if moment >= since and (until is None or moment < until):
            return moment
        if place == 0 and exchange_time < since:
            best = exchange_time
    return best
