"""The tree of settings: sources, allowed values, and their conversion for domain and activities."""

from workers.settings.connections import DatabaseSettings, ExchangeSettings, TemporalSettings
from workers.settings.exits import ExitOverrides, ExitSettings, TriggerSettings
from workers.settings.tree import (
    AdoptionSettings,
    OrderSettings,
    Settings,
    StreamSettings,
    SymbolSettings,
    TelemetrySettings,
    WatcherSettings,
    build,
    load_settings,
    read_sources,
)

__all__ = [
    "AdoptionSettings",
    "DatabaseSettings",
    "ExchangeSettings",
    "ExitOverrides",
    "ExitSettings",
    "OrderSettings",
    "Settings",
    "StreamSettings",
    "SymbolSettings",
    "TelemetrySettings",
    "TemporalSettings",
    "TriggerSettings",
    "WatcherSettings",
    "build",
    "load_settings",
    "read_sources",
]
