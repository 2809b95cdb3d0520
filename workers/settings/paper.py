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
    """The paper exchange that `bottrader up` starts, from its next start; options of `up` go before these."""

    maker_fee_pct: _Fee = Field(Decimal("0.4"), description="fee of who rests")
    taker_fee_pct: _Fee = Field(Decimal("0.6"), description="fee of who takes")
    spread_bps: Annotated[Decimal, Field(gt=0, le=2000, decimal_places=12), Unit("basis points")] = Field(
        Decimal(2), description="quoted spread, but on live prices"
    )
    balances: _Balances = Field(("USD=100000",), description="what a new account begins with; one that is kept stays")
    products: Products = Field((), description="products that are traded; none: all there are")
    products_file: PlainFile | None = Field(
        None, description="products in the shape of GET /products, instead of the bundled ones"
    )
    fills: Literal["pessimistic", "base", "optimistic"] | None = Field(
        None, description="how orders fill; none: base on live prices, optimistic on others"
    )
