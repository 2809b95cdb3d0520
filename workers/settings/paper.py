"""Settings of the paper exchange that `bottrader up` starts."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from workers.settings.types import PlainFile, Products, Section, Unit, split_commas

__all__ = ["PaperSettings"]


def _balance(value: str) -> str:
    currency, _, amount = value.strip().partition("=")
    if not (currency.isalnum() and currency.isascii() and amount.replace(".", "", 1).isdecimal() and amount.isascii()):
        raise ValueError("a balance is written like USD=100000")
    return f"{currency.upper()}={amount}"


_Fee = Annotated[Decimal, Field(ge=0, lt=100, decimal_places=12), Unit("percent")]
_Balances = Annotated[
    tuple[Annotated[str, AfterValidator(_balance)], ...], BeforeValidator(split_commas), Field(min_length=1)
]


class PaperSettings(Section):
    """The paper exchange that `bottrader up` starts, from its next start; options of `up` override these."""

    maker_fee_pct: _Fee = Field(Decimal("0.4"), description="maker fee")
    taker_fee_pct: _Fee = Field(Decimal("0.6"), description="taker fee")
    spread_bps: Annotated[Decimal, Field(gt=0, le=2000, decimal_places=12), Unit("basis points")] = Field(
        Decimal(2), description="quoted spread, not with live prices"
    )
    balances: _Balances = Field(
        ("USD=100000",), description="starting balances of a new account; an existing one is not changed"
    )
    products: Products = Field((), description="traded products; none: all")
    products_file: PlainFile | None = Field(
        None, description="file of products in the format of GET /products, instead of the bundled ones"
    )
    fills: Literal["pessimistic", "base", "optimistic"] | None = Field(
        None, description="how orders fill; none: base with live prices, else optimistic"
    )
