"""A book as one JSON document, a line a sell: exact decimals as texts.

`{"sells": [{id, symbol, size, uncovered_size, proceeds, uncovered_proceeds, cost_basis, pnl, parts: [{lot, size,
cost}]}], "lots": [{symbol, lot, size, cost}], "totals": {symbol: {…}}}`. `pnl` is of what lots cover: proceeds less
uncovered_proceeds less cost_basis.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from fifo.amounts import text_of
from fifo.book import Book
from fifo.line import Line

__all__ = ["json_lines"]


def json_lines(book: Book) -> Iterator[str]:
    """The document in pieces."""
    totals: list[str] = []
    yield '{"sells": ['
    comma = "\n"
    for symbol in book.symbols:
        line, name = book.line(symbol), _json(symbol)
        proceeds = uncovered = uncovered_proceeds = number = 0
        for number, (sell, pieces) in enumerate(line.sells(), 1):
            covered, brought = line.covered(number - 1)
            cost = 0
            parts: list[str] = []
            for piece in pieces:
                cost += piece.cost
                parts.append(
                    f'{{"lot": {_json(line.lot(piece.lot).id)}, "size": "{text_of(piece.size)}", '
                    f'"cost": "{text_of(piece.cost)}"}}'
                )
            proceeds += sell.amount
            uncovered += sell.moved - covered
            uncovered_proceeds += sell.amount - brought
            yield (
                f'{comma}{{"id": {_json(sell.id)}, "symbol": {name}, "size": "{text_of(sell.size)}", '
                f'"uncovered_size": "{text_of(sell.moved - covered)}", "proceeds": "{text_of(sell.amount)}", '
                f'"uncovered_proceeds": "{text_of(sell.amount - brought)}", "cost_basis": "{text_of(cost)}", '
                f'"pnl": "{text_of(brought - cost)}", "parts": [{", ".join(parts)}]}}'
            )
            comma = ",\n"
        totals.append(f"{name}: {_totals(line, number, proceeds, uncovered, uncovered_proceeds)}")
    yield '\n],\n"lots": ['
    comma = "\n"
    for symbol in book.symbols:
        name = _json(symbol)
        for lot, size, cost in book.line(symbol).lots():
            yield (
                f'{comma}{{"symbol": {name}, "lot": {_json(lot.id)}, "size": "{text_of(size)}", '
                f'"cost": "{text_of(cost)}"}}'
            )
            comma = ",\n"
    yield '\n],\n"totals": {\n' + ",\n".join(totals) + "\n}}\n"


def _totals(line: Line, sells: int, proceeds: int, uncovered: int, uncovered_proceeds: int) -> str:
    open_size, open_cost = line.open()
    cost = line.cost_taken()
    return (
        f'{{"fills": {len(line)}, "sells": {sells}, "pnl": "{text_of(line.covered_proceeds() - cost)}", '
        f'"proceeds": "{text_of(proceeds)}", "cost_basis": "{text_of(cost)}", '
        f'"uncovered_size": "{text_of(uncovered)}", "uncovered_proceeds": "{text_of(uncovered_proceeds)}", '
        f'"open_size": "{text_of(open_size)}", "open_cost": "{text_of(open_cost)}"}}'
    )


def _json(value: str | int) -> str:
    return str(value) if type(value) is int else orjson.dumps(value).decode()
