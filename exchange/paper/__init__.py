"""A paper exchange: a server that speaks the real Coinbase Advanced Trade protocols, for trying and testing.

    async with PaperExchange(PaperConfig(step=True)) as paper:
        client = RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address)
"""

from exchange.paper.config import Generated, Live, PaperConfig, PriceFile
from exchange.paper.control_client import ControlError, PaperControl
from exchange.paper.errors import PaperError
from exchange.paper.faults import Fault, FaultKind
from exchange.paper.server import PaperExchange

__all__ = [
    "ControlError", "Fault", "FaultKind", "Generated", "Live", "PaperConfig", "PaperControl", "PaperError",
    "PaperExchange", "PriceFile",
]
