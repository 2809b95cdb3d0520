"""What activities tell of their work beside their results, so that a process can count it (`workers.telemetry`).

Whoever does the work calls a `Measures`; this one keeps nothing, which is what a process without metrics has.
"""

from __future__ import annotations

import structlog

from domain.messages import StatusSource

__all__ = ["SILENT", "Measures", "tell_match"]

_log = structlog.get_logger(__name__)


class Measures:
    """Nobody listens. A class that does overrides the methods, which must not raise and must not wait."""

    def matched(self, by: str, source: StatusSource) -> None:
        """A report brought a fill; `by`: how its order was found (client_id, exchange_id, none)."""

    def written(self, write: str, source: StatusSource) -> None:
        """A report was recorded; `write`: insert (a new fill), update (known rows only) or none (nothing new)."""

    def attempt_ended(self, outcome: str, number: int) -> None:
        """An attempt, the `number`th of its order, has come to its end."""

    def fill_failed(self, where: str, kind: str) -> None:
        """A fill could not be recorded now and is tried again; `kind` is the error's type."""

    def stops_calculated(self, seconds: float) -> None:
        """A price was compared with all stops of its product, which took so long."""

    def unprotected(self, seconds: float) -> None:
        """A position was not watched for so long, and is again (wall)."""


SILENT = Measures()


def tell_match(
    measures: Measures, by: str, source: StatusSource, *, exchange_order_id: str, order_key: str | None
) -> None:
    """Log and count a report that brings a fill: how its order was found, and which it is (None: it is not ours)."""
    measures.matched(by, source)
    _log.info("fill matched", by=by, source=source.value, exchange_order_id=exchange_order_id, order=order_key)
