"""The trading commands under the names that `cli.main` uses."""

from cli.order_list import orders
from cli.orders import order_app
from cli.trades import trade_app, trades

__all__ = ["order_app", "orders", "trade_app", "trades"]
