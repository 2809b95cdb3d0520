"""Strange answers that a client must be able to read: fields without a value, null for a list, text for numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from exchange.paper.faults import FaultKind

__all__ = ["SPOILT"]

_LACKS: Mapping[str, Mapping[str, object]] = {
    "public/get-tickers": {"a": None, "b": None, "c": None, "k": None, "l": None},
    "public/get-instruments": {"price_tick_size": "", "qty_tick_size": ""},
    "private/get-trades": {"fees": None, "side": ""},
    "private/get-order-history": {"avg_price": "", "side": ""},
    "private/get-open-orders": {"quantity": "", "side": ""},
}
"""What the newest of several rows of a list lacks."""


def _strange(method: str, answer: dict[str, object]) -> None:
    rows = _rows(answer)
    if len(rows) > 1 and isinstance(rows[0], dict):
        rows[0].update(_LACKS.get(method, {}))


def _null_list(_: str, answer: dict[str, object]) -> None:
    result = answer.get("result")
    if isinstance(result, dict) and result.get("data") == []:
        result["data"] = None


def _texts(_: str, answer: dict[str, object]) -> None:
    answer.update({name: _as_text(value) for name, value in answer.items()})


def _as_text(value: object) -> object:
    """Whole numbers as text, as the examples in the venue's documents have them; recordings have numbers."""
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _rows(answer: Mapping[str, object]) -> list[object]:
    result = answer.get("result")
    rows = result.get("data") if isinstance(result, dict) else None
    return rows if isinstance(rows, list) else []


def _spoiling(change: Callable[[str, dict[str, object]], None]) -> Callable[[bytes], bytes]:
    def spoil(body: bytes) -> bytes:
        answer = orjson.loads(body)
        change(str(answer.get("method")), answer)
        return orjson.dumps(answer)

    return spoil


SPOILT: Mapping[FaultKind, Callable[[bytes], bytes]] = {
    FaultKind.REST_STRANGE: _spoiling(_strange),
    FaultKind.REST_NULL_LIST: _spoiling(_null_list),
    FaultKind.REST_TEXT_NUMBERS: _spoiling(_texts),
}
"""Makes the strange answer of a good one, by fault."""
