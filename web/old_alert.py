"""The alert of the replaced systems (HER-5), read as one of ours: `pair` instead of `symbol` tells it apart.

Its sell named no size and meant everything: it closes the product's open trades, as coins that no trade owns are not an
alert's to sell. Orders get the source `sighook`, whatever webhook.source says. Without a name of its own (`uuid`,
`timestamp`), an alert is known by its snapshot, product and side: a run decides once on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from web.alert import Alert, AlertTime, Amount, Key, Number, TriggerName, Wrong, read_alert, wrong_field

__all__ = ["OLD_EXAMPLE", "OldAlert", "OldForm", "is_old", "read_old_alert", "sells_old"]

OLD_EXAMPLE: Mapping[str, object] = {
    "summary": "The form of the replaced systems",
    "value": {
        "pair": "BTC-USD",
        "side": "buy",
        "snapshot_id": "5a3c3f0e-6f6b-4f6c-9d7e-0d6f5c0a1b2c",
        "score": {"Buy Score": 1.5, "Sell Score": 0},
        "trigger": {"trigger": "rsi_oversold"},
    },
}
_FOR_THE_RECORD = frozenset({"score", "trigger", "snapshot_id", "price", "order_amount_fiat", "order_type"})
"""Fields that don't affect what a sell does."""


class OldAlert(Alert):
    """An alert that came in the old form."""

    recorded_source: ClassVar[Literal["sighook", "webhook"] | None] = "sighook"


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _named(value: object) -> object:
    if isinstance(value, str):
        return {"trigger": value}
    if not isinstance(value, dict):
        raise ValueError('must be a name, or an object such as {"trigger": "rsi_oversold"}')  # noqa: TRY004 - pydantic's
    return value


def _scores(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError('must be an object such as {"Buy Score": 1.5, "Sell Score": 0}')  # noqa: TRY004 - pydantic's
    return value


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OldScore(_Form):
    """The scores of the decision."""

    buy: Number | None = Field(None, alias="Buy Score")
    sell: Number | None = Field(None, alias="Sell Score")


class OldTrigger(BaseModel):
    """The trigger that decided; what else its sender kept with it is not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    trigger: Annotated[TriggerName, BeforeValidator(_lower)]


class OldForm(_Form):
    """The old form. Amounts in quote currency, prices in quote per base."""

    pair: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9]{1,20}[-/_][A-Za-z0-9]{1,10}$")]
    side: Annotated[Literal["buy", "sell"], BeforeValidator(_lower)]
    action: Annotated[Literal["buy", "sell"], BeforeValidator(_lower)] | None = Field(None, description="as side")
    score: Annotated[OldScore, BeforeValidator(_scores)] | None = None
    trigger: Annotated[OldTrigger, BeforeValidator(_named)] | None = None
    snapshot_id: UUID | None = None
    order_amount_fiat: Amount | None = Field(None, description="buy: amount to spend; default: the trigger's size")
    order_type: Annotated[Literal["market", "limit"], BeforeValidator(_lower)] | None = None
    price: Amount | None = None
    uuid: Key | None = Field(None, description="the sender's id for this alert")
    timestamp: AlertTime | None = None
    verified: Literal["valid"] | None = None
    source: str | None = Field(None, max_length=60, description="not read: orders get the source sighook")
    origin: str | None = Field(None, max_length=60, description="not read")
    base_avail_to_trade: object = Field(None, description="not read: the sender's view of balances")
    quote_avail_balance: object = Field(None, description="not read: the sender's view of balances")
    token: Annotated[str, StringConstraints(strict=True, max_length=200)] | None = Field(
        None, description="for senders that can't send headers; never stored", repr=False, exclude=True
    )


def is_old(value: object) -> bool:
    """Whether a JSON value is an alert in the old form."""
    return isinstance(value, dict) and "pair" in value


def sells_old(value: Mapping[str, object]) -> bool:
    """Whether an alert in the old form asks to sell, apart from other errors."""
    return is_old(value) and _lower(value.get("side", value.get("action"))) == "sell"


def read_old_alert(value: Mapping[str, object]) -> Alert:
    """An alert in the old form as ours. Raises Wrong, which names the field as it was sent."""
    form = _form(value)
    if form.action is not None and form.action != form.side:
        raise Wrong("action", f"action {form.action} and side {form.side} contradict each other: leave action out")
    name = form.uuid
    if name is None and form.timestamp is None:
        if form.snapshot_id is None:
            raise Wrong(
                "snapshot_id",
                "snapshot_id is missing: without it, a uuid or a timestamp, the same alert sent twice could not be "
                "told from two alerts",
            )
        name = f"{form.snapshot_id}-{form.pair.upper().replace('/', '-').replace('_', '-')}-{form.side}"
    trigger = None if form.trigger is None else form.trigger.trigger
    given: dict[str, object] = {
        "symbol": form.pair,
        "key": name,
        "time": None if form.timestamp is None else form.timestamp.isoformat(),
        "buy_score": None if form.score is None else form.score.buy,
        "sell_score": None if form.score is None else form.score.sell,
        "snapshot_id": form.snapshot_id,
        "price": form.price,
    }
    if form.side == "sell":
        given |= {"action": "close", "note": f"sell by {trigger}" if trigger else ""}
    else:
        given |= {
            "action": "buy",
            "trigger": trigger,
            "size_quote": form.order_amount_fiat,
            "order_type": _order_type(form),
        }
    return read_alert({field: item for field, item in given.items() if item is not None}, OldAlert)


def _form(value: Mapping[str, object]) -> OldForm:
    """Raises Wrong. A sell is not refused for what is only recorded, as an alert of ours isn't."""
    try:
        return OldForm.model_validate(value)
    except ValidationError as error:
        wrong = {str(found["loc"][0]) for found in error.errors() if found["loc"]}
        if not sells_old(value) or not wrong <= _FOR_THE_RECORD:
            raise wrong_field(error, (*OldForm.model_fields, "Buy Score", "Sell Score")) from None
    return OldForm.model_validate({name: item for name, item in value.items() if name not in wrong})


def _order_type(form: OldForm) -> str | None:
    """A limit without a price leaves the choice to the trigger, as its sender left it to us."""
    if form.order_type == "market":
        return "MARKET"
    return "LIMIT" if form.order_type == "limit" and form.price is not None else None
