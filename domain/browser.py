"""Which requests a browser may make to a page of ours. Pure rules.

A page from anywhere can make the owner's browser send requests to 127.0.0.1, and a name that such a page owns may lead
there, too (DNS rebinding). A browser says truthfully whom it asks (Host), for whom (Origin), and how the two are
related (Sec-Fetch-*): a page can't forge these. So what isn't exactly ours is refused.
"""

from collections.abc import Collection, Mapping

__all__ = ["foreign", "own_hosts", "refusal"]

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_FOREIGN = frozenset({"cross-site", "same-site"})


def own_hosts(port: int) -> tuple[str, str]:
    """The two ways in which our own address is written in a Host header."""
    return f"127.0.0.1:{port}", f"localhost:{port}"


def refusal(method: str, headers: Mapping[str, str], port: int) -> str | None:
    """Why a request to our `port` on this machine is refused, in one sentence; None for one of our own page or of the
    address bar. See `foreign`.
    """
    return foreign(method, headers, [f"http://{host}" for host in own_hosts(port)])


def foreign(method: str, headers: Mapping[str, str], origins: Collection[str], *, by_token: bool = False) -> str | None:
    """Why a request is refused that comes to a page whose own origins these are, in one sentence; None: it isn't.

    `headers` must find a name however it is written. A link on a foreign page may open ours at the top of a window,
    which changes nothing; everything else that a foreign page asks for is refused, another port's page included.
    `by_token`: a program asks, which need not say for whom; a page could not send its token without asking first.
    """
    host = headers.get("Host")
    own = [origin for origin in origins if origin.partition("://")[2] == host]
    if not own:
        return "This page answers only at its own address: see what `bottrader up` printed."
    origin = headers.get("Origin")
    safe = method in _SAFE_METHODS
    if origin not in own and not ((safe or by_token) and origin is None):
        return "Only this page itself may ask for that."
    opened = safe and headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if headers.get("Sec-Fetch-Site") in _FOREIGN and not opened:
        return "Only this page itself may ask for that."
    return None
