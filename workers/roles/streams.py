"""The roles streams and watchers: options of the user stream, the price watchers and reconcile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from activities.exits.price_watcher import WatcherOptions
from activities.reconcile.run import ReconcileOptions
from activities.streams.user_stream import UserStreamOptions
from workers.settings import Settings
from workers.settings.values import lease_terms

__all__ = ["reconcile_options", "user_stream_options", "watcher_options"]


def user_stream_options(settings: Settings) -> UserStreamOptions:
    """Options of the user stream."""
    return UserStreamOptions(
        lease=lease_terms(settings),
        call_timeout=float(settings.exchange.timeout_s) * 3,
        alert_after_failures=settings.streams.alert_after_failures,
    )


def reconcile_options(settings: Settings) -> ReconcileOptions:
    """Options of reconcile."""
    return ReconcileOptions(first_look_back_seconds=settings.reconcile.first_look_back_days * 86_400.0)


class AllowedSymbols:
    """The products that may be bought, always by the settings in force."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings().symbols.allow)


def watcher_options(current: Callable[[], Settings]) -> WatcherOptions:
    """Options of the price watchers. `current` returns the settings in force."""
    settings = current()
    exits = settings.exits
    return WatcherOptions(
        symbols=AllowedSymbols(current),
        lease=lease_terms(settings),
        market_speed=settings.speed,
        poll_seconds=float(settings.watcher.poll_s),
        signals_sell=lambda: current().strategy.enabled,
        hodl=lambda: current().symbols.hodl,
        signal_max_age=float(exits.signal_max_age_s),
        atr_period=exits.atr_period,
        atr_candle_seconds=exits.atr_candle_minutes * 60,
        quote_timeout=float(settings.exchange.timeout_s),
        unprotected_after_seconds=float(settings.notices.unprotected_after_s),
        alert_after_failures=settings.streams.alert_after_failures,
    )
