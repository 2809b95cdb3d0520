"""`bottrader trade show`: a trade's full record, from the decision to the exit."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import note, print_json, print_table, tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from temporalio.client import Client

    from workers.settings import Settings

__all__ = ["show"]

_JSON = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_KEY = Annotated[str, typer.Argument(help="The trade's key, or its first six or more characters.")]


def show(
    key: _KEY,
    as_json: _JSON = False,
) -> None:
    """Show a trade's full record: why it was entered, what was sent, what filled, how it was exited."""
    import asyncio

    from cli.settings_left import settings_to_stop

    story = asyncio.run(_story(settings_to_stop(), key))
    if as_json:
        print_json(story)
    else:
        _print_story(story)


async def _story(settings: "Settings", given: str) -> dict[str, Any]:
    """Everything in the ledger about a trade, and its workflows' timelines."""
    import asyncio

    from cli.ledger import open_ledger, resolve_key
    from domain.ids import exit_workflow_id, order_workflow_id
    from web.views.trades import described_story, read_story
    from workers.errors import UnreachableError
    from workers.readiness import unwatched
    from workers.temporal_connection import connect

    async with open_ledger(settings) as ledger:
        story = await read_story(ledger, await resolve_key(ledger, settings.account, given))
        alone = await unwatched(ledger, settings.account, [story.entry["symbol"]], settings.watcher.shards)
    timelines: dict[str, list[str]] = {}
    try:
        client = await connect(settings)
    except UnreachableError as error:
        note(f"Without the workflows' timelines: {error.sentence}")
    else:
        ids = (order_workflow_id(story.key), exit_workflow_id(story.key))
        answers = await asyncio.gather(*(_timeline(client, name, story.given_by) for name in ids))
        timelines = {name: answer for name, answer in zip(ids, answers, strict=True) if answer is not None}
    return described_story(story, alone=alone) | {"timelines": timelines}


async def _timeline(client: "Client", workflow_id: str, commands: "Mapping[tuple[str, str], str]") -> list[str] | None:
    """A workflow's timeline, with the requesters' names from the ledger; None if it does not answer."""
    from cli.asking import query
    from domain.commands import TimelineEntry

    entries = await query(client, workflow_id, "timeline_entries")
    if entries is not None:
        return [TimelineEntry.model_validate(entry).checked(commands) for entry in entries]
    # A worker of the release before knows only sentences: they are shown as they are, with what messages claim.
    lines: list[str] | None = await query(client, workflow_id, "timeline")
    return lines


def _print_story(story: "Mapping[str, Any]") -> None:
    from cli.ledger import ago
    from domain.wording import book_price, compared, money, percent, short, tidy

    _print_head(story)
    print_table(
        (
            "order",
            "#",
            "client order id",
            "exchange's id",
            "status",
            "size",
            "limit",
            "filled",
            "average",
            "known from",
        ),
        [
            (
                short(row["order_key"]),
                row["number"],
                row["client_order_id"],
                row["exchange_order_id"],
                row["status"] + (f" ({row['refusal']})" if row["refusal"] else ""),
                tidy(row["size"]),
                tidy(row["limit_price"]),
                tidy(row["filled_size"]),
                book_price(row["filled_value"], row["filled_size"]),
                row["status_source"],
            )
            for row in story["attempts"]
        ],
        title="Sent to the exchange",
        empty="Nothing was sent to the exchange.",
        narrow_without=("client order id", "exchange's id", "known from"),
    )
    print_table(
        ("at", "side", "size", "price", "value", "fees", "order", "via"),
        [
            (row["at"], row["side"], tidy(row["size"]), tidy(row["price"]), tidy(row["value"]), tidy(row["quote_fees"]),
             short(row["order_key"]), row["ingest_via"])
            for row in story["fills"]
        ],
        title="Fills",
        empty="Nothing has filled.",
        narrow_without=("order", "via"),
    )  # fmt: skip
    if story["exits"]:
        print_table(
            ("reason", "target", "due at", "sold", "at price", "gross", "net", "slippage", "fees", "attempts", "took"),
            [
                (
                    row["reason"],
                    percent(row["target_fraction"]),
                    tidy(row["trigger_price"]),
                    tidy(row["size"]),
                    tidy(row["average_price"]),
                    percent(row["achieved_gross"]),
                    percent(row["achieved_net"]),
                    tidy(row["slippage"]),
                    tidy(row["fees"]),
                    row["attempts"],
                    ago(row["due_at"], row["at"]),
                )
                for row in story["exits"]
            ],
            title="How it was exited",
            narrow_without=("target", "due at", "slippage", "fees", "attempts"),
        )
    print_table(
        ("order", "role", "gate", "", "compared values"),
        [
            (short(row["order_key"]), row["role"], row["gate"], "passed" if row["passed"] else "REFUSED",
             compared(row["numbers"]))
            for row in story["gates"]
        ],
        title="Gates",
        empty="No gate ran.",
    )  # fmt: skip
    for row in story["promises"]:
        note_of = f" ({row['note']})" if row["note"] else ""
        done = "done" if row["done"] else "not done yet"
        tell(f"{row['kind']} by {row['given_by']}{note_of}, accepted {row['accepted_at']:%H:%M:%S}Z: {done}")
    for row in story["stop_changes"]:
        noted = f" ({row['note']})" if row["note"] else ""
        tell(f"{row['at']:%H:%M:%S}Z stops moved by {row['given_by']}{noted}: {row['sentence']}")
    for row in story["incidents"]:
        tell(f"{row['severity']} {row['at']:%H:%M:%S}Z {row['kind']}: {row['sentence']}")
    for workflow_id, lines in story["timelines"].items():
        typer.echo(f"\n{workflow_id}")
        for line in lines:
            tell(f"  {line}")
    if not story["timelines"]:
        tell("\nThe workflows' timelines are not available (no worker answers, or Temporal no longer keeps them).")
    if story["trade"] is not None and story["trade"]["pnl"] is not None:
        typer.echo(f"\nP&L {money(story['trade']['pnl'])} after {money(story['trade']['fees'])} fees.")


def _print_head(story: "Mapping[str, Any]") -> None:
    from domain.wording import about, money

    entry, decision, trade = story["entry"], story["decision"], story["trade"]
    from web.views.trade_words import state_words, stops_words

    asked_by = f", requested by {decision['asked_by']}" if decision["asked_by"] else ""
    rows: list[tuple[str, object]] = [
        ("trade", entry["order_key"]),
        ("entry", f"{entry['side']} {entry['symbol']} {entry['order_type']}: {entry['state']}"),
        ("decided by", f"{entry['trigger']} ({entry['source']}){asked_by}"),
        ("scores", f"buy {money(decision['buy_score'])}, sell {money(decision['sell_score'])}"),
        ("indicators", _indicators(decision)),
        ("snapshot", entry["snapshot_id"]),
        ("workflow", entry["workflow_id"]),
    ]
    if entry["gate"]:
        rows.insert(2, ("refused by", f"{entry['gate']}: {entry['sentence']}"))
    if trade is not None:
        bought = f"{money(trade['entry_size'])} bought at {about(trade['entry_price'])}"
        rows += [
            ("exit monitor", trade["exit_workflow_id"]),
            ("state", state_words(trade)),
            ("position", f"{bought}, {trade['dust_why'] or money(trade['remaining']) + ' left'}"),
            ("stops", "" if trade["state"] == "CLOSED" else stops_words(trade)),
            ("exit", trade["exit_reason"]),
        ]
    print_table(("", ""), rows, title="Trade")


def _indicators(decision: "Mapping[str, Any]") -> str:
    """Each indicator with its value and its contribution to the score; those that fired first."""
    from decimal import Decimal

    from domain.wording import money

    parts = decision["indicator_breakdown"]
    ranked = sorted(parts.items(), key=lambda item: (not item[1].get("fired"), item[0]))
    return ", ".join(
        f"{name} {part.get('value') or '–'}{' fired' if part.get('fired') else ''} "
        f"({money(Decimal(part.get('contribution') or 0))})"
        for name, part in ranked
    )
