"""The tree of settings: where they come from, what they may be, and what domain and activities get of them."""

from workers.settings.tree import (
    AdoptionSettings,
    DatabaseSettings,
    ExchangeSettings,
    ExitOverrides,
    ExitSettings,
    OrderSettings,
    Settings,
    StreamSettings,
    SymbolSettings,
    TelemetrySettings,
    TemporalSettings,
    TriggerSettings,
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
