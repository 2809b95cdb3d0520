"""The picture of the page in the README, with the trades of a demonstration: `python -m tests.support.picture`.

It runs what `make demo` runs, serves the page on that stack, and photographs a closed trade's drawer and each tab,
light and dark, into the folder that is named; `--write` also renews docs/page.png. Needs Chromium.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Literal

import asyncpg
from playwright.async_api import Browser

from cli.demo.command import _demonstrate as demonstrate
from cli.demo.command import _stack as stack_of
from cli.demo.run import DemoTerms
from tests.support.page import browser
from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack
from workers.stack.processes import Child, Command, free_port, python_environment, python_module

__all__ = ["ROOT"]

ROOT = Path(__file__).parents[2]
_TABS = ("open-orders", "executed-orders", "trades", "trades?list=closed", "trades?list=exit", "monitoring", "audit")
_REASONS = ("TRAILING_STOP", "TP", "HARD_STOP", "SOFT_STOP", "MANUAL")

_DRAWN = """() => [...document.querySelectorAll("aside.drawer canvas")].some(canvas => {
    const { width, height } = canvas;
    return width && height && canvas.getContext("2d").getImageData(0, 0, width, height).data.some(value => value);
})"""
"""Whether the chart shows something; its libraries draw it a moment after it is there."""


async def main(folder: Path, *, write: bool) -> None:
    """Run it all."""
    terms = DemoTerms(trades=20, seconds=75.0, speed=Decimal(120))
    async with LocalStack(stack_of(None, terms, 1)) as stack:
        await demonstrate(stack, terms)
        trade = await _trade(stack.dsn)
        async with _served(stack) as link_file, browser() as found:
            for scheme in ("light", "dark"):
                await _photograph(found, link_file, folder, trade, scheme)
    if write:
        (ROOT / "docs" / "page.png").write_bytes((folder / "light-drawer.png").read_bytes())


async def _trade(dsn: str) -> str:
    """The entry's key of the newest trade that was left for the first of these reasons that there is."""
    connection = await asyncpg.connect(dsn)
    try:
        found: str = await connection.fetchval(
            """SELECT entry_key FROM trades WHERE state = 'CLOSED' AND exit_reason = ANY($1::text[])
                ORDER BY array_position($1::text[], exit_reason), closed_at DESC LIMIT 1""",
            list(_REASONS),
        )
        return found
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _served(stack: LocalStack) -> AsyncIterator[Path]:
    """The API on the stack, as `bottrader api serve` serves it. Gives the file of the link that logs in."""
    link_file = stack.data / "picture_link"
    child = await Child.start(
        Command(
            name="the API",
            argv=python_module("cli.main", "api", "serve", "--port", str(free_port()), "--link-file", str(link_file)),
            log=stack.data / "logs" / "picture.log",
            env=python_environment({**stack.config.env, **stack.environment}),
        )
    )
    try:

        async def there() -> bool:
            assert child.running, child.log_tail()
            return await asyncio.to_thread(link_file.exists)

        await eventually(there, what="the API is served")
        yield link_file
    finally:
        await child.stop()


async def _photograph(
    found: Browser, link_file: Path, folder: Path, trade: str, scheme: Literal["light", "dark"]
) -> None:
    context = await found.new_context(viewport={"width": 1400, "height": 860}, color_scheme=scheme)
    page = await context.new_page()
    link = (await asyncio.to_thread(link_file.read_text)).strip()
    await page.goto(link)
    await page.locator(".shell").wait_for()
    origin = link.partition("/login")[0]
    for tab in _TABS:
        await page.goto(f"{origin}/#/{tab}")
        await page.get_by_text("Loading …").first.wait_for(state="detached")
        await page.locator(".content").wait_for()
        await page.screenshot(path=folder / f"{scheme}-{tab.replace('?list=', '-')}.png")
    await page.goto(f"{origin}/#/trades?list=closed&trade={trade}")
    await page.locator('aside.drawer [data-part="why"], aside.drawer .why').first.wait_for()
    await page.wait_for_function(_DRAWN)
    await page.screenshot(path=folder / f"{scheme}-drawer.png")
    await context.close()


if __name__ == "__main__":
    named = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if len(named) != 1:
        sys.exit("Name the folder for the pictures.")
    Path(named[0]).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(Path(named[0]), write="--write" in sys.argv))
