"""What the page reads: orders, trades, figures, candles, the account's standing, events and actions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from web.api.cursors import cursor_of, place_of
from web.api.explained import add_explanations, explained_order, explained_trade
from web.api.plain import GivenTime, PlainJson
from web.api.problems import RESPONSES
from web.api.rows import ActionRow, EventRow, OrderKind, OrderRow, Page, Severity, Side, TelegramState, TradeRow
from web.api.sources import Sources, TelegramView
from web.api.tables import CSV_RESPONSE, Form, Listing, Place
from web.refusals import Refused
from web.views import Json
from web.views import lists as views
from web.views.actions import actions, described_action
from web.views.standing import equity, market_of, newest_runs, newest_signals_of_all, notice_targets, read_standing
from web.views.trades import described_story, read_story

__all__ = ["Sources", "event_line", "read_routes"]

By = Literal["all", "day", "hour", "symbol", "trigger", "exit", "score"]
Limit = Annotated[int, Query(ge=1, le=1000, description="rows of a page")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before, with the same filters")]
Shape = Annotated[
    Form, Query(alias="format", description="csv: all rows, in CSV (also by `Accept: text/csv`); limit does not apply")
]
Symbol = Annotated[str | None, Query(max_length=40, description="a product, such as BTC-USD")]
Moment = Annotated[GivenTime | None, Query(description="a time with its zone")]
_NOTHING = "There is no such {} in this account."


def read_routes(sources: Sources) -> APIRouter:
    """The addresses that read."""
    router = APIRouter(responses=RESPONSES)
    _orders(router, sources)
    _trades(router, sources)
    _figures(router, sources)
    _monitoring(router, sources)
    add_explanations(router, sources)
    return router


def _orders(router: APIRouter, sources: Sources) -> None:
    ledger, account = sources.ledger, sources.account

    @router.get(
        "/api/open-orders",
        operation_id="open_orders",
        response_model=Page[OrderRow],
        responses=CSV_RESPONSE,
        tags=["orders"],
    )
    async def open_orders(
        request: Request,
        symbol: Symbol = None,
        side: Side | None = None,
        kind: OrderKind | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        form: Shape = None,
    ) -> Json | Response:
        """Orders that have not ended, the newest first."""
        filters: dict[str, str | None] = {"symbol": symbol, "side": side, "kind": kind}

        async def read(after: Place | None, most: int) -> list[Json]:
            place = views.Place(*after) if after else None
            rows = await views.open_orders(ledger, account, **filters, after=place, limit=most)
            return [views.described_order_line(row) for row in rows]

        found = Listing("open-orders", OrderRow, filters, ("received_at", "order_key"), read)
        return await found.answer(request, form, cursor, limit)

    @router.get(
        "/api/executed-orders",
        operation_id="executed_orders",
        response_model=Page[OrderRow],
        responses=CSV_RESPONSE,
        tags=["orders"],
    )
    async def executed_orders(
        request: Request,
        symbol: Symbol = None,
        side: Side | None = None,
        kind: OrderKind | None = None,
        state: Literal["FILLED", "CANCELLED", "EXPIRED", "REJECTED", "FAILED"] | None = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        form: Shape = None,
    ) -> Json | Response:
        """Orders that have ended, whatever the end, the last first."""
        filters: dict[str, str | None] = {"symbol": symbol, "side": side, "kind": kind, "state": state}

        async def read(after: Place | None, most: int) -> list[Json]:
            place = views.Place(*after) if after else None
            rows = await views.ended_orders(ledger, account, **filters, after=place, limit=most)
            return [views.described_order_line(row) for row in rows]

        found = Listing("executed-orders", OrderRow, filters, ("ended_at", "order_key"), read)
        return await found.answer(request, form, cursor, limit)

    @router.get("/api/orders/{key}", operation_id="order", tags=["orders"])
    async def order(key: str) -> PlainJson:
        """One order with its gates, attempts, fills, commands and incidents, why it was placed or not, and when."""
        row = await views.order_line(ledger, account, _key(key))
        if row is None:
            raise Refused(404, "NO_SUCH_ORDER", _NOTHING.format("order"))
        return PlainJson({"order": views.described_order_line(row), **await explained_order(sources, row)})


def _trades(router: APIRouter, sources: Sources) -> None:
    ledger, account = sources.ledger, sources.account

    @router.get(
        "/api/trades", operation_id="trades", response_model=Page[TradeRow], responses=CSV_RESPONSE, tags=["trades"]
    )
    async def trades(
        request: Request,
        state: Literal["open", "closed"] = "open",
        symbol: Symbol = None,
        trigger: Annotated[str | None, Query(max_length=100)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
        form: Shape = None,
    ) -> Json | Response:
        """Trades: open ones by when they were opened, closed ones by when they were closed, the last first."""
        closed = state == "closed"
        filters: dict[str, str | None] = {"symbol": symbol, "trigger": trigger}

        async def read(after: Place | None, most: int) -> list[Json]:
            place = views.Place(*after) if after else None
            rows = await views.trades_of(ledger, account, closed=closed, **filters, after=place, limit=most)
            alone = await sources.unwatched({row["symbol"] for row in rows if row["state"] != "CLOSED"})
            return [views.described_trade_line(row, alone) for row in rows]

        at = "closed_at" if closed else "opened_at"
        found = Listing(f"{state}-trades", TradeRow, filters, (at, "entry_key"), read)
        return await found.answer(request, form, cursor, limit)

    @router.get("/api/trades/{key}", operation_id="trade", tags=["trades"])
    async def trade(key: str) -> PlainJson:
        """A trade's whole story, by its entry's key or that of an order that sells of it."""
        row = await views.order_line(ledger, account, _key(key))
        if row is None:
            raise Refused(404, "NO_SUCH_TRADE", _NOTHING.format("trade"))
        story = await read_story(ledger, row["order_key"])
        line = await views.trade_line(ledger, account, story.key)
        alone = await sources.unwatched([row["symbol"]])
        found = described_story(story, alone=alone) | await explained_trade(sources, story)
        return PlainJson(found | {"trade": None if line is None else views.described_trade_line(line, alone)})


def _figures(router: APIRouter, sources: Sources) -> None:
    ledger, account = sources.ledger, sources.account

    @router.get("/api/pnl", operation_id="pnl", tags=["figures"])
    async def pnl(by: By = "all", since: Moment = None, until: Moment = None) -> PlainJson:
        """Figures of closed trades in groups, separately by currency, as `bottrader report` computes them."""
        return PlainJson({"by": by, "groups": await sources.groups(by, since, until)})

    @router.get("/api/equity", operation_id="equity", tags=["figures"])
    async def equity_over_time(
        bucket: Literal["hour", "day", "week", "month"] = "day", since: Moment = None, until: Moment = None
    ) -> PlainJson:
        """The cumulated result of closed trades over time, and its drawdown."""
        return PlainJson({"bucket": bucket, "series": await equity(ledger, account, bucket, since, until)})

    @router.get("/api/candles/{symbol}", operation_id="candles", tags=["figures"])
    async def candles(
        symbol: str,
        seconds: Annotated[int, Query(ge=1, le=604_800, description="length of a candle")] = 300,
        since: Moment = None,
        until: Moment = None,
        limit: Limit = 300,
    ) -> PlainJson:
        """A product's newest candles, oldest first, with our fills among them."""
        if len(symbol) > 40 or not symbol.isprintable():
            raise Refused(422, "BAD_SYMBOL", "A product is written like BTC-USD.", field="symbol")
        return PlainJson(await market_of(ledger, account, symbol, seconds, since, until, limit))


def _monitoring(router: APIRouter, sources: Sources) -> None:
    ledger, account = sources.ledger, sources.account

    @router.get("/api/monitoring/summary", operation_id="summary", tags=["monitoring"])
    async def summary() -> PlainJson:
        """The account's standing: counts, the day's result against its limits, switch, incidents, streams, signals."""
        standing = await read_standing(ledger, account, sources.streams, sources.unwatched)
        incidents = await views.events(ledger, account, only_open=True, limit=100)
        signals = await newest_signals_of_all(ledger, account, 50)
        return PlainJson(
            standing
            | {
                "today": await sources.today(),
                "limits": await sources.limits(),
                "incidents": [event_line(row) for row in incidents],
                "signals": [dict(row) for row in signals],
                "runs": [dict(row) for row in await newest_runs(ledger, account, 20)],
                "notices": [dict(row) for row in await notice_targets(ledger, account)],
            }
        )

    @router.get(
        "/api/monitoring/telegram-messages",
        operation_id="messages",
        response_model=Page[EventRow],
        tags=["monitoring"],
    )
    async def messages(
        kind: Annotated[str | None, Query(max_length=100)] = None,
        severity: Severity | None = None,
        only_open: bool = False,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Json:
        """Events that people are notified of, whether a message was sent or not, the newest first."""
        filters = {"list": "events", "kind": kind, "severity": severity, "only_open": only_open}
        place = place_of(cursor, filters, int)
        rows = await views.events(
            ledger,
            account,
            kind=kind,
            severity=severity,
            only_open=only_open,
            before=place[0] if place else None,
            limit=limit + 1,
        )
        last = cursor_of(filters, rows[limit - 1]["id"]) if len(rows) > limit else None
        now = datetime.now(UTC)
        items = [event_line(row) | {"telegram": _by_telegram(row, sources.telegram, now)} for row in rows[:limit]]
        return {"items": items, "next_cursor": last}

    @router.get("/api/actions", operation_id="actions", response_model=Page[ActionRow], tags=["monitoring"])
    async def actions_by_the_api(
        by: Annotated[str | None, Query(max_length=100)] = None,
        kind: Annotated[str | None, Query(max_length=100)] = None,
        subject: Annotated[str | None, Query(max_length=100)] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Json:
        """Actions by the API: who asked for what, and the answer, the newest first."""
        filters = {"list": "actions", "by": by, "kind": kind, "subject": subject}
        place = place_of(cursor, filters, datetime, str, str)
        rows = await actions(ledger, account, by=by, kind=kind, subject=subject, after=place, limit=limit + 1)
        lines = [described_action(row) for row in rows[:limit]]
        last = lines[-1] if len(rows) > limit else None
        cut = None if last is None else cursor_of(filters, last["at"], last["by"], last["key"])
        return {"items": lines, "next_cursor": cut}


def event_line(row: Any) -> Json:
    """An event as `EventRow` has it."""
    known = {name: value for name, value in row.items() if name != "telegram_chats"}
    return known | {"messages": row["messages"] or 0, "targets": row["targets"] or 0}


def _by_telegram(row: Any, telegram: TelegramView | None, now: datetime) -> TelegramState | None:
    """What became of an event at Telegram. What is older than a day when the bot first sees it is not sent, but for
    CRITICAL ones that last."""
    if telegram is None:
        return None
    told = row["telegram_chats"] or 0
    if told >= telegram.chats:
        return "sent"
    lasts = row["severity"] == "CRITICAL" and row["resolved_at"] is None
    past = now - row["at"] > timedelta(days=1) and not lasts
    off = telegram.manner(row["kind"], row["severity"]) == "off" or past
    return "waits" if not off else "sent" if told else "off"


def _key(given: str) -> str:
    """The key if it has the form of one, else a text that no row has."""
    return given if len(given) == 32 and given.isascii() and given.isalnum() else ""
