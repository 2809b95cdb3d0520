"""`bottrader fifo`: exact lots and realised profit from a file of fills; needs no database and no server."""

import gc
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from cli.output import ExitCode, UserError, note

if TYPE_CHECKING:
    from fifo.reading import BadLine, Reading

__all__ = ["counted", "fifo_app", "no_cycles", "opened", "refusal", "say"]

_SHOWN_LINES = 10
_BUFFER = 1 << 20
_PIECES_AT_ONCE = 10_000
_LINES_BETWEEN_NOTES = 250_000
_SECONDS_BETWEEN_NOTES = 10.0
"""On a slow machine, or from a slow source, progress is printed by time."""
_LINES_BETWEEN_LOOKS = 5_000

fifo_app = typer.Typer(help="First in, first out: lots, cost and realised profit of fills.", no_args_is_help=True)


@fifo_app.callback()
def _fifo() -> None:
    """First in, first out: lots, cost and realised profit of fills."""


@fifo_app.command("match")
def match(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON Lines, CSV or a Coinbase export; - for standard input.")
    ],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Skip lines that can't be read, and report how many.")
    ] = False,
) -> None:
    """Match sells with the oldest lots and print sells, open lots and totals as exact JSON.

    Fields: id, time (with zone), seq, symbol, side, size, price, fee, fee_currency (quote, base, other), fee_rate.
    """
    from fifo.fills import FifoError
    from fifo.reading import read_fills
    from fifo.writing import json_lines

    name = "standard input" if file == "-" else file
    with no_cycles():
        try:
            with opened(file) as lines:
                reading = read_fills(counted(lines))
        except FifoError as error:
            raise UserError(error.code, f"{name}: {error.sentence}.") from error
        if reading.bad and not skip_bad:
            raise refusal(name, reading.bad, "Nothing was matched")
        say(reading, "matched")
        pieces = json_lines(reading.lines())
        while some := "".join(islice(pieces, _PIECES_AT_ONCE)):
            sys.stdout.write(some)
        sys.stdout.flush()


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """The lines of a file, or of standard input (`-`). Raises UserError(NO_FILE) and OS errors."""
    if file == "-":
        yield sys.stdin.buffer
        return
    if Path(file).is_dir():
        raise UserError("NO_FILE", f"{file} is a folder: name a file of fills.")
    with Path(file).open("rb", buffering=_BUFFER) as lines:
        yield lines


def counted(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same lines; for a long file, progress is printed on stderr."""

    def many() -> Iterator[list[bytes]]:
        source, read, noted, noted_at = iter(lines), 0, 0, time.monotonic()
        piece = min(_LINES_BETWEEN_LOOKS, _LINES_BETWEEN_NOTES)
        while some := list(islice(source, piece)):
            yield some
            read += len(some)
            now = time.monotonic()
            due = read - noted >= _LINES_BETWEEN_NOTES or now - noted_at >= _SECONDS_BETWEEN_NOTES
            if len(some) == piece and due:
                noted, noted_at = read, now
                note(f"{read:,} lines read")

    return chain.from_iterable(many())


@contextmanager
def no_cycles() -> Iterator[None]:
    """Runs without the garbage collector: millions of plain tuples hold no cycles, and scanning them is slow."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def refusal(name: str, bad: "list[BadLine]", outcome: str) -> UserError:
    """The bad lines with their problems, the `outcome`, and what to do."""
    more = [f"{name}: and {len(bad) - _SHOWN_LINES} more"] if len(bad) > _SHOWN_LINES else []
    lines = [f"{name}, {line}" for line in bad[:_SHOWN_LINES]]
    hint = f"{outcome}: correct the file, or skip such lines with --skip-bad."
    return UserError("BAD_FILLS", "\n".join([*lines, *more, hint]), ExitCode.BAD_INPUT)


def say(reading: "Reading", done: str) -> None:
    """Prints on stderr what was left out. `done` says what happened to the rest."""
    if reading.bad:
        for line in reading.bad[:_SHOWN_LINES]:
            note(f"skipped {line}")
        note(f"skipped {len(reading.bad)} bad lines; {len(reading)} fills {done}")
    if reading.repeated:
        note(f"{reading.repeated} lines repeat an earlier fill; each fill counts once")
    if reading.left_out:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(reading.left_out.items()))
        note(f"{reading.left_out.total()} rows are not trades and don't change lots: {kinds}")
    for sentence, (first, count) in sorted(reading.doubts.items()):
        where = f"line {first}" if count == 1 else f"line {first} and {count - 1} more"
        note(f"warning: {where}: {sentence}")
