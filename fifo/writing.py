"""Matched lines as one JSON document, one line per sell: exact decimals as texts.

`{"sells": [{id, symbol, size, uncovered_size, proceeds, uncovered_proceeds, cost_basis, pnl, parts: [{lot, size,
cost}]}], "lots": [{symbol, lot, size, cost}], "totals": {symbol: {…}}}`. `pnl` is for the part that lots cover:
proceeds less uncovered_proceeds less cost_basis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from fifo.amounts import text_of
from fifo.line import Line

__all__ = ["json_lines"]


def json_lines(lines: Mapping[str, Line]) -> Iterator[str]:
    """The document of these lines by symbol, in pieces."""
    totals: list[str] = []
    yield '{"sells": ['
    comma = "\n"
    for symbol in sorted(lines):
        line, name = lines[symbol], _json(symbol)
        sells = proceeds = uncovered_proceeds = uncovered = 0
        last, lot_id = -1, ""
        for sell, pieces, covered, brought in line.sells():
            _, _, _, sell_id, _, _, size, moved, amount = sell
            size_text, cost_text = text_of(size), "0"
            if len(pieces) == 1:
                ((lot, part_size, cost),) = pieces
                if lot != last:
                    last, lot_id = lot, _json(line.lot(lot).id)
                cost_text = text_of(cost)
                part_text = size_text if part_size == size else text_of(part_size)
                parts = f'{{"lot": {lot_id}, "size": "{part_text}", "cost": "{cost_text}"}}'
            else:
                cost, shown = 0, []
                for lot, part_size, part_cost in pieces:
                    if lot != last:
                        last, lot_id = lot, _json(line.lot(lot).id)
                    cost += part_cost
                    shown.append(f'{{"lot": {lot_id}, "size": "{text_of(part_size)}", "cost": "{text_of(part_cost)}"}}')
                parts = ", ".join(shown)
                cost_text = text_of(cost)
            sells += 1
            proceeds += amount
            rest, rest_brought = "0", "0"
            if covered != moved:
                uncovered += moved - covered
                uncovered_proceeds += amount - brought
                rest, rest_brought = text_of(moved - covered), text_of(amount - brought)
            yield (
                f'{comma}{{"id": {_json(sell_id)}, "symbol": {name}, "size": "{size_text}", '
                f'"uncovered_size": "{rest}", "proceeds": "{text_of(amount)}", "uncovered_proceeds": "{rest_brought}", '
                f'"cost_basis": "{cost_text}", "pnl": "{text_of(brought - cost)}", "parts": [{parts}]}}'
            )
            comma = ",\n"
        totals.append(f"{name}: {_totals(line, sells, proceeds, uncovered, uncovered_proceeds)}")
    yield '\n],\n"lots": ['
    comma = "\n"
    for symbol in sorted(lines):
        name = _json(symbol)
        for buy, left, left_cost in lines[symbol].lots():
            yield (
                f'{comma}{{"symbol": {name}, "lot": {_json(buy.id)}, "size": "{text_of(left)}", '
                f'"cost": "{text_of(left_cost)}"}}'
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


def _json(value: str) -> str:
    # Letters and digits need no escapes, and most ids have nothing else.
    return f'"{value}"' if value.isalnum() else orjson.dumps(value).decode()
