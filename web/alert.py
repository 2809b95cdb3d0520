"""An alert as sent: fields, allowed values, and sentences about errors.

An unknown field is refused by name: a misspelt `size_qoute` must not buy another amount. Numbers may be JSON numbers or
strings with a number, because charting programs send both.

A close is not refused for fields that are only recorded: charting programs send NaN for an indicator without a value,
and the position would stay open for that. Such a value is stored as null.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from domain.amounts import LONGEST_NUMBER, is_number, number_in, out_of_range
from domain.errors import BotTraderError
from domain.messages import IndicatorPart, Linkage
from domain.money import ZERO, plain
from web.strict_json import BadJson, check_texts

__all__ = [
    "EXAMPLES",
    "Alert",
    "AlertPart",
    "AlertTime",
    "Amount",
    "Key",
    "Number",
    "TriggerName",
    "Wrong",
    "asks_to_close",
    "read_alert",
    "with_readable_record",
    "wrong_field",
]

_OLDEST, _NEWEST = 946_684_800, 4_102_444_800
"""1 January 2000 and 2100: the range in which a number of seconds counts as a time."""
_LONGEST_NAME, _SHORT_NAME = 80, 10
"""How many characters of a field's path are shown: all of it, or too few to contain a secret."""
_FOR_THE_RECORD = frozenset({"price", "score", "buy_score", "sell_score", "indicators", "snapshot_id", "note"})
"""Fields of a close that don't affect what is sold, or how."""

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "buy": {
        "summary": "Buy for 100 USD, sized by the alert",
        "value": {
            "key": "rsi-20261121-0930",
            "symbol": "COINBASE:BTCUSD",
            "action": "buy",
            "trigger": "rsi_oversold",
            "size_quote": 100,
            "time": "2026-11-21T09:30:02Z",
            "indicators": {"rsi": {"value": 27.4, "fired": True, "weight": 1.5, "contribution": 1.5}, "atr": "412.5"},
            "score": 1.5,
        },
    },
    "limit": {
        "summary": "A limit order of a given size",
        "value": {
            "id": "breakout-17",
            "symbol": "BTC-USD",
            "side": "buy",
            "size_base": "0.002",
            "price": "50000",
            "order_type": "LIMIT_POST_ONLY",
        },
    },
    "close": {
        "summary": "Sell every open trade of a product",
        "value": {"key": "exit-20261121-1015", "symbol": "BTC/USD", "action": "close"},
    },
}


class Wrong(BotTraderError):
    """The alert can't be used: which field (empty: the whole), and a sentence without a full stop."""

    code = "BAD_ALERT"

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field
        self.sentence = sentence


def _decimal(value: object) -> Decimal:
    if isinstance(value, Decimal) and value.is_nan():
        raise ValueError("must be a number that can be an amount or price (not NaN, not too long or too large)")
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        found = Decimal(value)
    else:
        typed = number_in(value) if isinstance(value, str) else None
        if typed is None:
            raise ValueError("must be a number")
        found = typed
    problem = out_of_range(found)
    if problem is not None:
        raise ValueError(problem)
    return Decimal(plain(found))


def _moment(value: object) -> datetime:
    """ISO 8601 with a zone, or seconds or milliseconds since 1970."""
    if isinstance(value, str) and not is_number(value):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("must be a time like 2026-11-21T09:30:00Z, or seconds since 1970") from None
        if found.tzinfo is None:
            raise ValueError("must have a zone, like the Z of 2026-11-21T09:30:00Z")
        try:
            return found.astimezone(UTC)
        except OverflowError:
            raise ValueError("is not a time of this century") from None
    seconds = _decimal(value)
    if seconds >= _OLDEST * 1000:
        seconds /= 1000
    if not _OLDEST <= seconds < _NEWEST:
        raise ValueError("is not a time of this century")
    return datetime.fromtimestamp(float(seconds), UTC)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


_NUMBER_TEXT: dict[str, Any] = {"type": "string", "pattern": r"^-?[0-9]*\.?[0-9]+$", "maxLength": LONGEST_NUMBER}


def _schema(*, positive: bool) -> WithJsonSchema:
    least: dict[str, Any] = {"exclusiveMinimum": 0} if positive else {}
    return WithJsonSchema({"anyOf": [{"type": "number", **least}, _NUMBER_TEXT]})


Number = Annotated[Decimal, BeforeValidator(_decimal), _schema(positive=False)]
Amount = Annotated[Decimal, BeforeValidator(_decimal), Field(gt=0), _schema(positive=True)]
AlertTime = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]
AlertAction = Annotated[Literal["buy", "sell", "close"], BeforeValidator(_lower)]
Style = Annotated[Literal["MARKET", "LIMIT", "LIMIT_IOC", "LIMIT_POST_ONLY"], BeforeValidator(_upper)]
Key = Annotated[str, StringConstraints(strict=True, pattern=r"^[\x21-\x7e]{1,100}$")]
TriggerName = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
IndicatorName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=60)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlertPart(_Part):
    """One indicator's part in the decision."""

    value: Number | None = None
    fired: StrictBool = False
    weight: Number = ZERO
    contribution: Number = ZERO


def _part(value: object) -> object:
    return value if isinstance(value, dict | AlertPart) else {"value": value}


Indicator = Annotated[
    AlertPart,
    BeforeValidator(_part),
    WithJsonSchema({"anyOf": [AlertPart.model_json_schema(), {"type": "number"}, _NUMBER_TEXT]}),
]


class Alert(_Part):
    """A sender's request. Sizes in quote or base currency, prices in quote per base."""

    recorded_source: ClassVar[Literal["sighook", "webhook"] | None] = None
    """The source of its orders; None: as the settings say."""

    symbol: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=60)] = Field(
        description="product: BTC-USD; BTCUSD, BTC/USD and COINBASE:BTCUSD are also accepted"
    )
    action: AlertAction | None = Field(None, description="buy; sell a size; close every open trade of the product")
    side: AlertAction | None = Field(None, description="the same as action, for senders that use this name")
    key: Key | None = Field(None, description="your id for this alert: the same key again is the same order")
    id: Key | None = Field(None, description="the same as key")
    trigger: TriggerName | None = Field(None, description="trigger whose size, order type and exits a buy gets")
    size_quote: Amount | None = Field(None, description="buy: amount to spend; default: the trigger's size")
    size_base: Amount | None = Field(None, description="amount to buy or sell")
    price: Amount | None = Field(
        None, description="the worst price to trade at; with order_type MARKET, and of a close, it is only recorded"
    )
    order_type: Style | None = Field(None, description="default: the trigger's")
    score: Number | None = Field(None, description="the score of the action")
    buy_score: Number | None = None
    sell_score: Number | None = None
    indicators: dict[IndicatorName, Indicator] = Field(
        default_factory=dict, max_length=50, description="the indicators of the decision, by name: a value, or all data"
    )
    snapshot_id: uuid.UUID | None = Field(None, description="of the run that decided; default: one for this alert")
    time: AlertTime | None = Field(None, description="when it was decided: ISO 8601 with a zone, or seconds since 1970")
    note: Annotated[str, StringConstraints(strict=True, max_length=200)] = Field("", description="recorded only")
    dry_run: StrictBool = Field(False, description="run every gate, but send nothing")
    token: Annotated[str, StringConstraints(strict=True, max_length=200)] | None = Field(
        None, description="for senders that can't send headers; never stored", repr=False, exclude=True
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.action or self.side) is None:
            raise ValueError("action is missing: buy, sell or close")
        if self.action and self.side and self.action != self.side:
            raise ValueError(f"action {self.action} and side {self.side} contradict each other: leave one of them out")
        if self.key and self.id and self.key != self.id:
            raise ValueError("key and id mean the same: leave one of them out")
        if self.size_quote is not None and self.size_base is not None:
            raise ValueError("size_quote and size_base are two sizes: leave one of them out")
        self._check_action()
        return self

    def _check_action(self) -> None:
        if self.does == "close":
            for name in ("size_quote", "size_base", "order_type", "dry_run", "trigger"):
                if getattr(self, name) not in (None, False, "MARKET"):
                    raise ValueError(f"close sells every open trade at market, so {name} can't be given")
        if self.does == "sell":
            if self.size_base is None:
                raise ValueError("sell needs size_base, the amount to sell; close sells every open trade")
            if self.trigger is not None:
                raise ValueError("trigger is only for a buy")
            if self.order_type == "LIMIT_POST_ONLY" or self.order_type == "LIMIT":
                raise ValueError(
                    "a sell is MARKET or LIMIT_IOC: a resting sell would hold the coins that the trades' own stops "
                    "must sell"
                )
        if self.order_type in ("LIMIT", "LIMIT_IOC") and self.price is None:
            raise ValueError(f"order_type {self.order_type} needs a price")

    @property
    def does(self) -> Literal["buy", "sell", "close"]:
        """The requested action."""
        found = self.action or self.side
        if found is None:
            raise ValueError("action is missing")
        return found

    @property
    def name(self) -> str | None:
        """The sender's own id of the alert."""
        return self.key or self.id

    def digest(self, product: str) -> str:
        """SHA-256 of the whole request, without the token and the spelling of the symbol."""
        parts = self.model_dump(mode="json", exclude={"token", "symbol", "side", "action", "id", "key"})
        parts |= {"symbol": product, "action": self.does}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def linkage(self, trigger: str, order_key: str) -> Linkage:
        """The decision behind the order. If the alert names no fired indicator, the alert itself counts as one."""
        breakdown = {
            name: IndicatorPart(value=part.value, fired=part.fired, weight=part.weight, contribution=part.contribution)
            for name, part in self.indicators.items()
        }
        score = self.score
        if not any(part.fired for part in breakdown.values()):
            worth = Decimal(1) if score is None else score
            breakdown["alert"] = IndicatorPart(value=self.price, fired=True, weight=Decimal(1), contribution=worth)
        if score is None:
            score = sum((part.contribution for part in breakdown.values()), ZERO)
        buys = self.does == "buy"
        return Linkage(
            trigger=trigger,
            snapshot_id=str(self.snapshot_id or uuid.UUID(hex=order_key)),
            buy_score=self.buy_score if self.buy_score is not None else score if buys else None,
            sell_score=self.sell_score if self.sell_score is not None else None if buys else score,
            indicator_breakdown=breakdown,
            indicators_fired=tuple(sorted(name for name, part in breakdown.items() if part.fired)),
        )


def read_alert(value: object, kind: type[Alert] = Alert) -> Alert:
    """Parse a JSON value as an alert of this kind. Raises Wrong, which names the field."""
    if not isinstance(value, dict):
        raise Wrong("", "the body must be a JSON object with fields such as symbol and action")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        usable = _without_what_is_for_the_record(value, error) if asks_to_close(value) else value
        if usable == value:
            raise wrong_field(error) from None
    try:
        return kind.model_validate(usable)
    except ValidationError as error:
        raise wrong_field(error) from None


def asks_to_close(value: Mapping[str, Any]) -> bool:
    """Whether a JSON object would be a close, apart from other errors."""
    return "close" in (_lower(value.get("action")), _lower(value.get("side")))


def with_readable_record(value: Mapping[str, Any]) -> dict[str, Any]:
    """A close without recorded-only values that contain text that can't be stored."""

    def readable(item: object) -> bool:
        try:
            check_texts(item)
        except BadJson:
            return False
        return True

    return {name: item for name, item in value.items() if name not in _FOR_THE_RECORD or readable(item)}


def _without_what_is_for_the_record(value: Mapping[str, Any], error: ValidationError) -> dict[str, Any]:
    """`value` without invalid values that an exit doesn't need."""
    usable = dict(value)
    for found in error.errors():
        field, *inner = found["loc"] or ("",)
        if field not in _FOR_THE_RECORD:
            continue
        if field == "indicators" and inner and isinstance(usable.get(field), dict):
            name, kept = str(inner[0]), dict(usable[field])
            kept.pop(name, None)
            usable[field] = kept if "[key]" in inner else kept | {name: {}}
        else:
            usable.pop(str(field), None)
    return usable


def wrong_field(error: ValidationError, fields: Sequence[str] = ()) -> Wrong:
    """The first error as a sentence; unknown fields come first, because one may be a misspelt required field. `fields`:
    the names of the form's fields, if it isn't ours.
    """
    findings = sorted(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    found = findings[0]
    where = ".".join(str(part) for part in found["loc"] if part not in ("[key]", "function-before"))
    if len(where) > _LONGEST_NAME:
        where = f"{where[:_SHORT_NAME]}…"
    if found["type"] == "extra_forbidden":
        owner = Alert if len(found["loc"]) == 1 else AlertPart
        names = [name for name in fields or owner.model_fields if name != "token"]
        near = difflib.get_close_matches(str(found["loc"][-1]), names, n=1)
        return Wrong(where, f"{where} is not a field" + (f"; did you mean {near[0]}?" if near else ""))
    if found["type"] == "missing":
        return Wrong(where, f"{where} is missing")
    message = str(found["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be").replace("String should", "must")
    message = message.replace("Dictionary should", "must").replace("greater than 0", "above 0")
    if found["type"] == "string_pattern_mismatch":
        message = "has the wrong format"
        if where.startswith(("key", "id", "uuid")):
            message = "must be 1 to 100 printable ASCII characters without blanks"
        elif where in ("trigger", "trigger.trigger"):
            message = "must be lower-case letters, digits, - and _"
        elif where == "pair":
            message = "must be a product like BTC-USD"
    return Wrong(where, f"{where}: {message}" if where else message[:1].lower() + message[1:])
