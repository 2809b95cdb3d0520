"""What admission reads: the facts of entries and those of a sell, one statement each.

What a sell of the pool may take is read by `activities.ledger.holdings`; what is written, by
`activities.orders.decisions`.

`ENTRY_FACTS`: account, quote currency, order keys, symbols (both in the order of the answer's rows), 1 + the fee rate,
trades to look at for a losing streak, wall seconds for which a price is fresh, and the names of the account's own
currency with the ending of its symbols (`activities.orders.limits.own_currency`). `SELL_FACTS`: order key, account,
symbol, entry key, and of its command the id, the kind and the subject, null for none.
`ENDED_SINCE`: account, a time.
"""

from __future__ import annotations

from activities.orders.group_controls import IN_FORCE
from activities.orders.limits import closed_results, of_today
from domain.orders import EntryPoint

__all__ = ["ENDED_SINCE", "ENTRY_FACTS", "HOLD_TURN", "SELL_FACTS", "TURN"]

# Available = the last snapshot's total, less what later buys spent and what open buys still need, own and others', plus
# what later sells brought. A buy's fill counts if it was *recorded* after the balance was asked for (it may be counted
# twice for a moment, which is the safe side), a sell's only if it *happened* after the answer. Orders of somebody else
# reserve nothing with us, so what is left of their attempts counts.
#
# Where the quote currency is traded itself (BTC for ETH-BTC), what open trades own of it and what sells of it may still
# take is spoken for, and its own fills move the total, each counted on the safe side in the same way. A currency that
# the account's snapshot does not name is one that it has nothing of.
#
# What the exchange held at the snapshot beyond what orders that we know may have held is not available: some order has
# it that nobody has told us of. Known are orders that were admitted before the answer, with what they still need and
# what they have spent since, and all of somebody else's.
_OF_BASE = "left({0}.symbol, length($2) + 1) IN ($2 || '-', $2 || '_')"
_OF_QUOTE = "right({0}.symbol, length($2) + 1) IN ('-' || $2, '_' || $2)"
ENTRY_FACTS = f"""
WITH buys AS MATERIALIZED (
    SELECT o.symbol, o.role = 'ENTRY' AS own, greatest(o.reserved_quote - o.filled_value - o.quote_fees, 0) AS rest,
           o.received_at AS since
      FROM orders o WHERE o.account = $1 AND o.side = 'BUY' AND NOT o.finished AND {_OF_QUOTE.format("o")}
    UNION ALL
    -- somebody else's attempts are never live ones of ours; a join would be planned while the tables were small
    SELECT a.symbol, false, greatest(a.size - a.filled_size, 0) * a.limit_price * $5, '-infinity'
      FROM attempts a
     WHERE a.account = $1 AND a.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT a.live
       AND {_OF_QUOTE.format("a")}
       AND (SELECT o.role || o.side FROM orders o WHERE o.order_key = a.order_key) = 'EXTERNALBUY'
), held AS MATERIALIZED (
    -- summed first: one price is looked up for each symbol, not for each trade
    SELECT t.symbol, t.size,
           -- without a fresh price it is not known: what it once cost says nothing
           t.size * CASE WHEN m.at > statement_timestamp() - $7::float8 * interval '1 second'
                          AND m.at < statement_timestamp() + interval '5 seconds'
                         THEN coalesce(m.price, m.bid) END AS value
      FROM (SELECT t.symbol, sum(t.remaining) AS size FROM trades t
             WHERE t.account = $1 AND t.state <> 'CLOSED' AND {_OF_QUOTE.format("t")} GROUP BY t.symbol) t
      LEFT JOIN market_prices m ON m.account = $1 AND m.symbol = t.symbol
), owned AS MATERIALIZED (
    SELECT coalesce((SELECT sum(t.remaining) FROM trades t
                      WHERE t.account = $1 AND t.state <> 'CLOSED' AND {_OF_BASE.format("t")}), 0)
         + coalesce((SELECT sum(o.open_claim) FROM orders o
                      WHERE o.account = $1 AND o.side = 'SELL' AND NOT o.finished AND o.entry_key IS NULL
                        AND {_OF_BASE.format("o")}), 0)
         + coalesce((SELECT sum(greatest(a.size - a.filled_size, 0)) FROM attempts a
                      WHERE a.account = $1 AND a.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT a.live
                        AND {_OF_BASE.format("a")}
                        AND (SELECT o.role || o.side FROM orders o WHERE o.order_key = a.order_key) = 'EXTERNALSELL'),
                    0)
         - coalesce((SELECT sum(CASE WHEN f.side = 'SELL' THEN -(f.size + f.base_fees)
                                     WHEN f.at > b.answered_at THEN f.size - f.base_fees ELSE 0 END)
                       FROM fills f JOIN balances b ON b.account = $1 AND b.currency = $2
                      WHERE f.account = $1 AND f.recorded_at > b.asked_at AND {_OF_BASE.format("f")}), 0) AS size
), said AS MATERIALIZED (
    SELECT id, subject, given_by FROM commands WHERE account = $1 AND kind = 'order' AND id = ANY ($3::text[])
), account AS MATERIALIZED (
    SELECT statement_timestamp() AS read_at,
           coalesce((SELECT taken FROM admission_turns WHERE account = $1), 0) AS turns,
           EXISTS (SELECT FROM orders o WHERE o.account = $1 AND NOT o.finished AND {_OF_BASE.format("o")})
             OR EXISTS (SELECT FROM trades t WHERE t.account = $1 AND t.state <> 'CLOSED' AND {_OF_BASE.format("t")})
             AS quote_is_traded,
           (SELECT mode FROM ledger_identity) AS mode,
           (SELECT armed_at IS NOT NULL FROM account_identities WHERE account = $1) AS armed,
           coalesce(c.halted, false) AS halted, c.reason AS halted_why, c.changed_by AS halted_by,
           -- most have none: what strategies and triggers are held to is read only where it is wanted
           EXISTS (SELECT FROM group_controls c WHERE c.account = $1 AND {IN_FORCE}) AS groups_halted,
           (SELECT coalesce(sum(rest), 0) FROM buys) + (SELECT size FROM owned) AS promised,
           -- whoever reads them reads all currencies, so any tells when one that is not named was empty
           extract(epoch FROM statement_timestamp() - coalesce(
               CASE WHEN greatest(b.asked_at, b.answered_at) > statement_timestamp()
                    THEN greatest(b.asked_at, b.answered_at) ELSE least(b.asked_at, b.answered_at) END,
               (SELECT max(asked_at) FROM balances WHERE account = $1))) AS balance_age,
           b.asked_at AS balance_at,
           CASE WHEN b.hold > 0 THEN greatest(0, b.hold
               - (SELECT coalesce(sum(rest), 0) FROM buys WHERE since < b.answered_at)
               - (SELECT coalesce(sum(o.open_claim), 0) FROM orders o
                   WHERE o.account = $1 AND o.side = 'SELL' AND NOT o.finished AND o.received_at < b.answered_at
                     AND {_OF_BASE.format("o")})
               - (SELECT coalesce(sum(greatest(a.size - a.filled_size, 0)), 0) FROM attempts a
                   WHERE a.account = $1 AND a.status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED') AND NOT a.live
                     AND {_OF_BASE.format("a")}
                     AND (SELECT o.role || o.side FROM orders o WHERE o.order_key = a.order_key) = 'EXTERNALSELL')
               - (SELECT coalesce(sum(CASE WHEN f.side = 'BUY' THEN f.value + f.quote_fees
                                           ELSE f.size + f.base_fees END), 0) FROM fills f
                   WHERE f.account = $1 AND f.recorded_at > b.asked_at
                     AND (f.side = 'BUY' AND {_OF_QUOTE.format("f")} OR f.side = 'SELL' AND {_OF_BASE.format("f")})
                     AND (SELECT o.received_at FROM orders o WHERE o.order_key = f.order_key) < b.answered_at))
                ELSE 0 END AS held_elsewhere,
           CASE WHEN b.currency IS NOT NULL THEN b.available + b.hold
                WHEN EXISTS (SELECT 1 FROM balances WHERE account = $1) THEN 0 END
           + (SELECT coalesce(sum(CASE WHEN f.side = 'BUY' THEN -(f.value + f.quote_fees)
                                       WHEN f.at > b.answered_at THEN f.value - f.quote_fees ELSE 0 END), 0)
                FROM fills f WHERE f.account = $1 AND f.recorded_at > b.asked_at AND {_OF_QUOTE.format("f")}) AS total,
           {closed_results("$1", "$6::int")}
      FROM {of_today("$1", "$8::text[]", "$9::text")}
      LEFT JOIN account_controls c ON c.account = $1
      LEFT JOIN balances b ON b.account = $1 AND b.currency = $2
)
SELECT account.*, m.bid, m.ask, m.change_24h, m.at AS seen_at,
       -- looked up once for all: one by one, a plan from when the table was small would read it for each
       asked.order_key = ANY (ARRAY(SELECT o.order_key FROM orders o WHERE o.order_key = ANY ($3::text[]))) AS existing,
       (SELECT count(*) FROM buys WHERE symbol = asked.symbol AND own)::int AS open_buys,
       (SELECT coalesce(sum(rest), 0) FROM buys WHERE symbol = asked.symbol) AS open_buys_value,
       (SELECT size FROM held WHERE symbol = asked.symbol) AS held_size,
       (SELECT value FROM held WHERE symbol = asked.symbol) AS held_value,
       (SELECT sum(value) FROM held WHERE symbol <> asked.symbol) AS others_value,
       ARRAY(SELECT symbol FROM held WHERE symbol <> asked.symbol AND value IS NULL AND size > 0) AS unpriced,
       ARRAY(SELECT size FROM held WHERE symbol <> asked.symbol AND value IS NULL AND size > 0) AS unpriced_sizes,
       said.subject AS command_about, said.given_by
FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS asked (order_key, symbol, number)
CROSS JOIN account LEFT JOIN market_prices m ON m.account = $1 AND m.symbol = asked.symbol
LEFT JOIN said ON said.id = asked.order_key
ORDER BY asked.number
"""

ENDED_SINCE = """
SELECT EXISTS (SELECT 1 FROM attempts WHERE account = $1 AND status IN ('FILLED','CANCELLED','EXPIRED','FAILED')
                  AND coalesce(final_at, 'infinity') > $2)
"""
"""Whether an order, of ours or not, that may have held something at a snapshot has ended since."""

HOLD_TURN = """
INSERT INTO admission_turns AS t (account) VALUES ($1) ON CONFLICT (account) DO UPDATE SET taken = t.taken
"""

TURN = """
SELECT coalesce((SELECT taken FROM admission_turns WHERE account = $1), 0) AS turns, statement_timestamp() AS read_at
"""

SELL_FACTS = f"""
SELECT exists(SELECT 1 FROM orders WHERE order_key = $1) AS existing,
       exists(SELECT 1 FROM orders WHERE account = $2 AND symbol = $3 AND NOT finished
                 AND entry_point = '{EntryPoint.MARKET_MAKER}') AS quoted,
       (SELECT t.remaining - coalesce((SELECT sum(o.open_claim)
               FROM orders o WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished), 0)
          FROM trades t WHERE t.entry_key = $4) AS held,
       (SELECT given_by FROM commands WHERE id = $5 AND account = $2 AND kind = $6 AND subject = $7) AS given_by
"""
