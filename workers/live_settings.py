"""The settings in force while a process runs: `current` is asked each time, never kept."""

from __future__ import annotations

from activities.database import Pool
from activities.policy import Policy
from workers.rules import policy_of
from workers.settings import Settings

__all__ = ["LiveSettings"]


class LiveSettings:
    """The settings of one process, with what was changed since it started."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._pool = pool
        self._current = settings
        self._policy = policy_of(settings)

    @property
    def current(self) -> Settings:
        """The settings in force now."""
        return self._current

    @property
    def policy(self) -> Policy:
        """What the activities need of them."""
        return self._policy
