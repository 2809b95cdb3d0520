"""What is known of the coins that an exit may sell where the exchange refuses it for lack of funds (`domain.funds`).

The books have what the user stream told of other people's orders, so they often know better than a read that fails,
hangs or lags.
"""

from __future__ import annotations

from decimal import Decimal

from activities.database import Connection, Statements
from activities.ledger.holdings import free_by_books
from domain.funds import LACK_OF_FUNDS, smaller
from domain.market import Product, base_of
from domain.messages import OrderIntent
from domain.money import ZERO

__all__ = ["first_size", "next_size", "size_again"]

_LATELY = "interval '60 s'"
"""For so long (wall time) a refusal for lack of funds says something."""

# Each refusal says that less than its size was available: less what was sold since, and with what the entry has bought
# since.
_REFUSED = f"""
SELECT min(a.size - coalesce((SELECT sum(f.size + f.base_fees) FROM fills f JOIN orders s USING (order_key)
                               WHERE s.entry_key = $1 AND s.side = 'SELL' AND f.recorded_at > a.final_at), 0)
                  + coalesce((SELECT sum(f.size - f.base_fees) FROM fills f
                               WHERE f.order_key = $1 AND f.recorded_at > a.final_at), 0))
  FROM orders o JOIN attempts a USING (order_key)
 WHERE o.entry_key = $1 AND o.role = 'EXIT' AND (o.finished_at IS NULL OR o.finished_at > now() - {_LATELY})
   AND a.status = 'FAILED' AND a.refusal = ANY ($2) AND a.final_at > now() - {_LATELY}
"""
_SHRINK = """
UPDATE orders SET base_size = filled_size + $2, claimed_base = least(claimed_base, filled_size + base_fees + $2)
 WHERE order_key = $1
"""


async def first_size(
    connection: Connection, intent: OrderIntent, claimable: Decimal, product: Product | None, price: Decimal | None
) -> Decimal:
    """The size (base) of an exit's first order, at most `claimable`: below what was refused of its trade lately; all
    where nothing is left to search for, or the books say that all is free, as what was in the way may be gone. Raises
    the database's errors.
    """
    if intent.base_size is not None:
        return claimable
    refused = await _refused(connection, intent)
    if refused is None or not ZERO < refused <= claimable:
        return claimable
    books = await _by_books(connection, intent)
    return claimable if books >= claimable else smaller(claimable, refused, [books], product, price) or claimable


async def next_size(
    connection: Connection,
    intent: OrderIntent,
    left: Decimal,
    free: Decimal | None,
    product: Product | None,
    price: Decimal | None,
) -> Decimal:
    """The size (base) of an exit's next order, below what was refused just now, and its claim shrinks to that; zero
    where none is worth it.

    `left` is what the order still claims, `free` what the exchange says is available (None: it doesn't say). Raises the
    database's errors.
    """
    refused = await _refused(connection, intent)
    if refused is None or intent.base_size is not None:
        return ZERO
    believed = [await _by_books(connection, intent), *([] if free is None else [free])]
    size = smaller(left, min(left, refused), believed, product, price)
    if size is None:
        return ZERO
    await connection.execute(_SHRINK, intent.order_key, size)
    return size


async def size_again(
    connection: Statements,
    intent: OrderIntent,
    claimed: Decimal,
    refused: Decimal,
    free: Decimal | None,
    product: Product | None,
    price: Decimal | None,
) -> Decimal:
    """The size (base) below `refused` that is asked for under the same id, as in `next_size`; zero where none is worth
    it. Its order goes on claiming all that it `claimed`. Raises the database's errors.
    """
    believed = [await _by_books(connection, intent), *([] if free is None else [free])]
    return smaller(claimed, min(claimed, refused), believed, product, price) or ZERO


async def _refused(connection: Statements, intent: OrderIntent) -> Decimal | None:
    found = await connection.fetchval(_REFUSED, intent.entry_key, sorted(LACK_OF_FUNDS))
    return None if found is None else Decimal(found)


async def _by_books(connection: Statements, intent: OrderIntent) -> Decimal:
    return await free_by_books(connection, intent.account, base_of(intent.symbol), intent.order_key)
