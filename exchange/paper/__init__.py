"""A paper exchange: a server that speaks the real Coinbase Advanced Trade protocols, for trying and testing.

    async with PaperExchange(PaperConfig(step=True)) as paper:
        client = RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address)

Names are loaded when first used, so that a command line that offers `paper` among others stays fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exchange.paper.config import Generated, Live, PaperConfig, PriceFile
    from exchange.paper.control_client import ControlError, PaperControl
    from exchange.paper.errors import PaperError
    from exchange.paper.faults import Fault, FaultKind
    from exchange.paper.server import PaperExchange

__all__ = [
    "ControlError",
    "Fault",
    "FaultKind",
    "Generated",
    "Live",
    "PaperConfig",
    "PaperControl",
    "PaperError",
    "PaperExchange",
    "PriceFile",
]

_HOME = {
    "ControlError": "control_client",
    "Fault": "faults",
    "FaultKind": "faults",
    "Generated": "config",
    "Live": "config",
    "PaperConfig": "config",
    "PaperControl": "control_client",
    "PaperError": "errors",
    "PaperExchange": "server",
    "PriceFile": "config",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
