"""The kinds of value that settings are made of: products, percentages, durations, sizes; and what a section is."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "Multiple",
    "Name",
    "OrderType",
    "Percent",
    "Product",
    "Products",
    "Seconds",
    "Section",
    "Size",
    "Source",
]


def _product(value: str) -> str:
    value = value.strip().upper()
    base, dash, quote = value.partition("-")
    if not (dash and base.isalnum() and quote.isalnum()):
        raise ValueError("a product is written like BTC-USD")
    return value


def _split_commas(value: object) -> object:
    """The environment's lists are written a,b,c."""
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Product = Annotated[str, AfterValidator(_product)]
Products = Annotated[tuple[Product, ...], BeforeValidator(_split_commas)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Percent = Annotated[Decimal, Field(gt=0, lt=100)]
Multiple = Annotated[Decimal, Field(gt=0, le=100)]
Seconds = Annotated[Decimal, Field(gt=0, le=86_400)]
Size = Annotated[Decimal, Field(gt=0)]
Source = Literal["sighook", "webhook", "manual"]
OrderType = Literal["MARKET", "LIMIT", "LIMIT_IOC", "LIMIT_POST_ONLY"]


class Section(BaseModel):
    """A part of the settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
