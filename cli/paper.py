"""`bottrader paper`: run a paper exchange. The command itself is the exchange's own (`python -m exchange.paper`)."""

from exchange.paper.command import paper

__all__ = ["paper"]
