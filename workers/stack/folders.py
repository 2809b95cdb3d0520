"""Folders for the user's files: data (ledger, histories) and cache (files that can be fetched or built again)."""

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_dir", "data_dir"]


def data_dir(mode: str = "paper") -> Path:
    """The local stack's data folder: BOTTRADER_DATA if set, else the platform's default, one for each mode
    (~/.local/share/bottrader and bottrader-live on Linux).
    """
    given = os.environ.get("BOTTRADER_DATA")
    name = "bottrader-live" if mode == "live" else "bottrader"
    return Path(given).expanduser() if given else Path(platformdirs.user_data_path(name, appauthor=False))


def cache_dir() -> Path:
    """The folder of built or downloaded programs: BOTTRADER_CACHE, else the platform's default (~/.cache/bottrader on
    Linux).
    """
    given = os.environ.get("BOTTRADER_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_path("bottrader", appauthor=False))
