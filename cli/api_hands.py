"""What the API acts with: commands in the ledger, the switch of entries, and Temporal once something is to be asked."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.database import Pool
    from activities.policy import Policy
    from domain.commands import CommandKind
    from domain.limit_groups import GroupKind
    from domain.messages import CloseRequest
    from web.api.actions import Hands
    from workers.settings import Settings

__all__ = ["hands_of"]


def hands_of(settings: "Settings", pool: "Pool", policy: "Callable[[], Policy] | None" = None) -> "Hands":
    """What the API acts with. Temporal is connected to when it is first needed: reading works without it.

    `policy`: the one in force at each look; without it, that of `settings`.
    """
    import contextlib

    import asyncpg

    from activities import commands
    from activities.orders import controls
    from cli.groups import group_sentence, has_quotes, require_group, turn_group
    from cli.output import UserError
    from cli.quotes import quotes_leave
    from web.api.actions import Hands, NoTemporalError
    from web.refusals import Refused
    from workers.errors import UnreachableError
    from workers.settings.values import policy_of
    from workers.temporal_connection import connect

    account = settings.account
    connected: list[Client] = []

    async def client() -> "Client":
        if not connected:
            try:
                connected.append(await connect(settings))
            except UnreachableError as error:
                raise NoTemporalError from error
        return connected[0]

    async def write_command(kind: "CommandKind", named: Sequence[tuple[str, str]], by: str, note: str) -> None:
        ids, subjects = zip(*named, strict=True)
        await commands.note_commands(pool, account, kind, subjects, by, note, ids=ids)

    async def keep(kind: "CommandKind", key: str, wish: "CloseRequest") -> None:
        await commands.keep(pool, account, kind, key, wish)

    async def turn(halted: bool, why: str, by: str) -> bool:
        change: Any = controls.halt if halted else controls.resume
        async with pool.acquire() as connection:
            changed: bool = await change(connection, account, why, by)
            if halted:
                # The switch is turned; quotes that can't be withdrawn now expire by themselves.
                with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                    await quotes_leave(connection, settings, by)
        return changed

    async def turn_one(group: "tuple[GroupKind, str]", halted: bool, why: str, by: str) -> tuple[bool, str]:
        async with pool.acquire() as connection:
            try:
                known = policy() if policy else policy_of(settings)
                await require_group(connection, known, *group)
            except UserError as missing:
                raise Refused(404, missing.code, missing.sentence) from missing
            changed = await turn_group(connection, account, group, why, by, halted=halted)
            if halted and has_quotes(known, group):
                with contextlib.suppress(asyncpg.PostgresError, OSError, TimeoutError):
                    await quotes_leave(connection, settings, by)
        return changed, group_sentence(group, changed=changed, halted=halted)

    return Hands(pool, account, settings.mode == "live", client, write_command, keep, turn, turn_one)
