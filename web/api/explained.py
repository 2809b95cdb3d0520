"""Addresses that explain: why a product was traded or not, what happened, how healthy each part is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from web.api.cursors import cursor_of, place_of
from web.api.plain import PlainJson
from web.api.rows import AuditRow, AuditSource, Page
from web.api.sources import Sources
from web.refusals import Refused
from web.views import Json, Row
from web.views.audit import AUDIT_SOURCES, described_event, read_audit
from web.views.lists import Place, order_parts
from web.views.orders import read_order
from web.views.reasons import order_sections, read_reasons, result_of, trade_sections
from web.views.strategy import decision_of
from web.views.timeline import order_timeline, trade_timeline
from web.views.trades import Story, described_decision, exit_of

__all__ = ["add_explanations", "explained_order", "explained_trade"]


async def explained_order(sources: Sources, line: Row) -> Json:
    """The drawer of one order, beside its row: parts, decision, sections of reasons, timeline."""
    ledger, key = sources.ledger, line["order_key"]
    parts = await order_parts(ledger, sources.account, key)
    order = await read_order(ledger, key)
    decided = await decision_of(ledger, order["snapshot_id"], order["symbol"])
    leaving = await exit_of(ledger, key)
    return {
        **parts,
        "decision": described_decision(order),
        "why": order_sections(order, parts["gates"], decided, leaving),
        "timeline": order_timeline(order, parts),
    }


async def explained_trade(sources: Sources, story: Story) -> Json:
    """The drawer of a trade, beside its record: sections of reasons, result, lots, timeline."""
    reasons = await read_reasons(sources.ledger, story)
    return {
        "why": trade_sections(story, reasons),
        "result": result_of(story),
        "lots": [dict(row) for row in reasons.lots],
        "timeline": trade_timeline(story),
    }


def add_explanations(router: APIRouter, sources: Sources) -> None:
    """Add `/api/why/{symbol}`, `/api/audit`, `/api/linkage` and `/api/monitoring/health`."""
    ledger, account = sources.ledger, sources.account

    @router.get("/api/why/{symbol}", operation_id="why", tags=["figures"])
    async def why(
        symbol: str, last: Annotated[int, Query(ge=1, le=100, description="runs, signals and orders of each")] = 3
    ) -> PlainJson:
        """Why a product was traded or not, like `bottrader why`: `answers` in sentences, with the data behind them."""
        if len(symbol) > 40 or not symbol.isprintable():
            raise Refused(422, "BAD_SYMBOL", "A product is written like BTC-USD.", field="symbol")
        return PlainJson(await sources.why(symbol.strip().upper(), last))

    @router.get("/api/linkage", operation_id="linkage", tags=["figures"])
    async def linkage() -> PlainJson:
        """How many filled orders are linked to their decision, by source, like `bottrader report linkage`."""
        return PlainJson(await sources.linkage())

    @router.get("/api/monitoring/health", operation_id="parts_health", tags=["monitoring"])
    async def health() -> PlainJson:
        """The findings of `bottrader doctor`, at most some seconds old: `check`, `verdict`, `finding`, `advice`."""
        return PlainJson(await sources.health())

    @router.get("/api/audit", operation_id="audit", response_model=Page[AuditRow], tags=["monitoring"])
    async def audit(
        symbol: Annotated[str | None, Query(max_length=40, description="a product, such as BTC-USD")] = None,
        about: Annotated[list[AuditSource] | None, Query(description="only these sources; none given: all")] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="rows of a page")] = 100,
        cursor: Annotated[str | None, Query(description="`next_cursor` of the page before, same filters")] = None,
    ) -> Json:
        """Events, newest first: orders and their ends, signals, incidents, people's commands, settings."""
        chosen: Sequence[str] = sorted(set(about)) if about else AUDIT_SOURCES
        filters = {"list": "audit", "symbol": symbol, "about": ",".join(sorted(chosen))}
        place = place_of(cursor, filters, datetime, str)
        rows = await read_audit(
            ledger,
            account,
            about=chosen,
            symbol=symbol,
            after=Place(*place) if place else None,
            limit=limit + 1,
        )
        last = cursor_of(filters, rows[limit - 1]["at"], rows[limit - 1]["id"]) if len(rows) > limit else None
        return {"items": [described_event(row) for row in rows[:limit]], "next_cursor": last}
