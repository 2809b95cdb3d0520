"""Records about a tenure's market feeds: connections, gaps and bad messages for its row, an outage for people.

Used by every holder of `Feeds` under a lease. Handling prices and candles, and catching up when told to, is the
holder's part.
"""

from __future__ import annotations

from collections.abc import Callable

from activities.incidents import OpenIncident
from activities.streams.feeds import Feed
from activities.streams.tenure import Tenure
from exchange.port import Connected, Disconnected, Gap, MalformedMessage, StreamEvent

__all__ = ["FeedNotes"]


class FeedNotes:
    """The book-keeping of one tenure.

    Args:
        outage: reported when a feed fails `alert_after` times in a row, resolved when all are connected; its subject is
            the lease.
        stream: its name for people, such as "market stream".
        meanwhile: what happens until it is back, for people.
    """

    def __init__(
        self,
        tenure: Tenure,
        outage: OpenIncident,
        *,
        alert_after: Callable[[], int],
        stream: str,
        meanwhile: str,
    ) -> None:
        self._tenure = tenure
        self._position = tenure.position
        self._outage = outage
        self._alert_after = alert_after
        self._stream = stream
        self._meanwhile = meanwhile

    def missed(self, feed: Feed, event: StreamEvent, *, all_connected: bool) -> bool:
        """Record an event of a feed's connection; returns whether its symbols may have missed something.

        `all_connected` says whether every feed is up now, this one included.
        """
        if isinstance(event, Connected):
            self._position.connections += 1
            self._position.connected = all_connected
            if all_connected:
                self._tenure.background.start(self._outage.over(self._tenure.lease.name))
            return True
        if isinstance(event, Gap):
            self._position.gaps += 1
            return True
        if isinstance(event, Disconnected):
            self._position.connected = False
            self.failed(feed, event.reason, event.failures)
        elif isinstance(event, MalformedMessage):
            self._position.malformed += 1
        return False

    def failed(self, feed: Feed, reason: str, failures: int) -> None:
        """A feed could not be opened, this many times in a row."""
        if failures >= self._alert_after():
            self._tenure.background.start(
                self._outage.tell(
                    self._tenure.lease.name,
                    f"The {self._stream} of {len(feed.symbols)} symbols is down, {failures} failures in a row "
                    f"({reason}); {self._meanwhile}.",
                    {"failures": failures, "reason": reason},
                )
            )
