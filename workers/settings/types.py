"""The types of settings: products, percentages, durations, sizes, sections.

A type's annotations are used everywhere: its unit in the sample file and in messages, LIVE and AT_START for what may be
changed while workers run, PaperOnly for what `mode = "live"` refuses.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

__all__ = [
    "AT_START",
    "LIVE",
    "Applies",
    "Currencies",
    "FileUse",
    "Hosts",
    "Multiple",
    "Name",
    "OrderType",
    "PaperOnly",
    "Percent",
    "PlainFile",
    "Product",
    "Products",
    "Seconds",
    "SecretFile",
    "Section",
    "Size",
    "Source",
    "Unit",
    "on_this_machine",
    "plain_number",
    "split_commas",
]


@dataclass(frozen=True, slots=True)
class Unit:
    """A number's unit, for people."""

    name: str


class Applies(Enum):
    """When a change of a setting applies."""

    AT_ONCE = "for every later decision, without a restart"
    AT_START = "from the next start of a worker"


class FileUse(Enum):
    """The requirement for a file named in a setting; `workers.settings.secret_files` checks it before a process
    starts."""

    SECRET = "readable by its owner only"  # noqa: S105 - a description
    PLAIN = "must exist"


LIVE = Applies.AT_ONCE
AT_START = Applies.AT_START


@dataclass(frozen=True, slots=True)
class PaperOnly:
    """A setting, or a wider range of one, for testing only.

    With `mode = "live"` only its default is allowed, or values accepted by `real`. `why` is a clause for the message,
    `instead` says what live allows.
    """

    why: str
    real: Callable[[Any], bool] | None = None
    instead: str = "leave it out"


def _product(value: str) -> str:
    value = value.strip().upper()
    base, dash, quote = value.partition("-")
    if not (dash and base.isalnum() and quote.isalnum()):
        raise ValueError("must be a product like BTC-USD")
    return value


def _currency(value: str) -> str:
    value = value.strip().upper()
    if not (value.isascii() and value.isalnum() and len(value) <= 10):
        raise ValueError("must be a currency like USD")
    return value


def split_commas(value: object) -> object:
    """The environment's lists are written a,b,c."""
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def plain_number(value: object) -> object:
    """A number's text unchanged. Raises ValueError for 1_000 and digits of other scripts, which Python accepts."""
    if isinstance(value, str) and ("_" in value or not value.isascii()):
        raise ValueError("must be a number in plain digits")
    return value


def on_this_machine(host: str) -> bool:
    """Whether a host's name or address can only be this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


SecretFile = Annotated[Path, FileUse.SECRET]
PlainFile = Annotated[Path, FileUse.PLAIN]
Product = Annotated[str, AfterValidator(_product)]
Products = Annotated[tuple[Product, ...], BeforeValidator(split_commas)]
Currencies = Annotated[
    tuple[Annotated[str, AfterValidator(_currency)], ...], BeforeValidator(split_commas), Field(min_length=1)
]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Hosts = Annotated[tuple[str, ...], BeforeValidator(split_commas)]
Percent = Annotated[Decimal, Field(gt=0, lt=100, decimal_places=12), Unit("percent")]
Multiple = Annotated[Decimal, Field(gt=0, le=100, decimal_places=12), Unit("times")]
Seconds = Annotated[Decimal, Field(gt=0, le=86_400, decimal_places=12), Unit("seconds")]
Size = Annotated[Decimal, Field(gt=0, le=10**12, decimal_places=12)]
Source = Literal["sighook", "webhook", "manual"]
OrderType = Literal["MARKET", "LIMIT", "LIMIT_IOC", "LIMIT_POST_ONLY"]


class Section(BaseModel):
    """A part of the settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_plain(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields.get(info.field_name or "")
        return plain_number(value) if field is not None and _is_number(field.annotation) else value


def _is_number(annotation: object) -> bool:
    """Whether nothing but a number, or none, is meant."""
    if get_origin(annotation) is Annotated:
        return _is_number(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    return all(map(_is_number, kinds)) if kinds else annotation in (Decimal, int, float)
