"""Where the product keeps files of the user's: data (ledger, histories) and cache (what can be fetched or built
again).
"""

import os
from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """The local stack's data folder: BOTTRADER_DATA, else the platform's own (~/.local/share/bottrader on Linux)."""
    given = os.environ.get("BOTTRADER_DATA")
    return Path(given).expanduser() if given else Path(platformdirs.user_data_path("bottrader", appauthor=False))


def cache_dir() -> Path:
    """The folder of built or downloaded programs: BOTTRADER_CACHE, else the platform's own (~/.cache/bottrader on
    Linux).
    """
    given = os.environ.get("BOTTRADER_CACHE")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_path("bottrader", appauthor=False))
