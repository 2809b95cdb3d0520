"""`bottrader why KEY`: why one order or trade came about, how it was left, where its result comes from, what happened.

The sentences are those of the API and the page (`web.views.reasons`). All of it is read from the ledger: it needs no
worker, and stays when Temporal has forgotten the workflows.
"""

import re
from typing import TYPE_CHECKING

import typer

from cli.output import print_table, tell

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from web.views import Json, Row
    from workers.settings import Settings

__all__ = ["is_key", "look_at_key", "print_reasons"]

_KEY = re.compile(r"(?:order-|exit-)?[0-9a-f]{6,32}(?:-[1-9][0-9]{0,2})?", re.IGNORECASE)


def is_key(subject: str) -> bool:
    """Whether this names an order or trade, rather than a product."""
    return _KEY.fullmatch(subject.strip()) is not None


async def look_at_key(settings: "Settings", given: str) -> "Json":
    """Why the order or trade of this key was placed or not, and all that follows from it, as JSON.

    Raises UserError for a key that names none or several, and the database's errors.
    """
    from cli.ledger import open_ledger, resolve_key
    from web.views.orders import described_order
    from web.views.reasons import read_reasons, result_of, trade_sections
    from web.views.timeline import trade_timeline
    from web.views.trades import described_decision, described_trade, read_story

    async with open_ledger(settings) as ledger:
        story = await read_story(ledger, await resolve_key(ledger, settings.account, given))
        reasons = await read_reasons(ledger, story)
    return {
        "key": story.key,
        "symbol": story.entry["symbol"],
        "entry": described_order(story.entry),
        "trade": None if story.trade is None else described_trade(story.trade),
        "why": trade_sections(story, reasons),
        "result": result_of(story),
        "decision": described_decision(story.entry),
        "gates": [dict(row) for row in story.parts["gates"]],
        "attempts": [dict(row) for row in story.parts["attempts"]],
        "lots": [dict(row) for row in reasons.lots],
        "timeline": trade_timeline(story),
    }


# --- what is printed -------------------------------------------------------------------------------------------------


def print_reasons(found: "Row") -> None:
    """The sentences, then every indicator, gate and lot with its numbers, then what happened when."""
    from domain.text import shown
    from domain.wording import short

    entry = found["entry"]
    tell(f"{entry['side']} {entry['symbol']} {short(found['key'])}: {_state(found)}")
    for section in found["why"]:
        typer.echo(f"\n{section['title']}")
        for sentence in section["sentences"]:
            tell(f"  {sentence}")
    _print_indicators(found["decision"]["indicator_breakdown"])
    _print_gates(found["gates"])
    _print_lots(found["lots"])
    if found["timeline"]:
        typer.echo("\nWhat happened when")
        for line in found["timeline"]:
            tell(f"  {shown(line['at'])}  {line['sentence']}")


def _state(found: "Row") -> str:
    return str((found["trade"] or found["entry"])["state"])


def _print_indicators(parts: "Mapping[str, Row]") -> None:
    if parts:
        print_table(
            ("indicator", "value", "fired", "weight", "contribution"),
            [
                (name, part.get("value"), bool(part.get("fired")), part.get("weight"), part.get("contribution"))
                for name, part in sorted(parts.items(), key=lambda item: (not item[1].get("fired"), item[0]))
            ],
            title="Indicators of the decision",
        )


def _print_gates(gates: "Sequence[Row]") -> None:
    from domain.wording import compared, short

    if gates:
        print_table(
            ("order", "gate", "", "compared values"),
            [
                (
                    short(row["order_key"]),
                    row["gate"],
                    "passed" if row["passed"] else "REFUSED",
                    compared(row["numbers"]),
                )
                for row in gates
            ],
            title="Gates",
            narrow_without=("order",),
        )


def _print_lots(lots: "Sequence[Row]") -> None:
    """What FIFO matched each part of the sells with."""
    from domain.wording import short, tidy

    if lots:
        print_table(
            ("bought", "by", "size", "bought at", "sold at", "cost", "net proceeds", "P&L"),
            [
                (
                    row["buy_time"],
                    short(row["buy_order_key"]) or row["buy_order_id"] or "not known",
                    tidy(row["size"]),
                    tidy(row["buy_price"]),
                    tidy(row["sell_price"]),
                    tidy(row["cost_basis"]),
                    tidy(row["net_proceeds"]),
                    tidy(row["pnl"]),
                )
                for row in lots
            ],
            title="Lots that its sells closed (FIFO)",
            narrow_without=("bought", "by"),
        )
