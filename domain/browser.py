"""Which requests a browser may make to a page of ours. Pure rules.

Any web page can make the owner's browser send requests to 127.0.0.1, and its own domain name may resolve there too (DNS
rebinding). The browser sets the target (Host), the requesting page (Origin) and their relation (Sec-Fetch-*); a page
can't forge these headers. So every request that isn't exactly from our own page is refused.
"""

from collections.abc import Collection, Mapping

__all__ = ["foreign", "own_hosts"]

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_FOREIGN = frozenset({"cross-site", "same-site"})


def own_hosts(port: int, address: str = "127.0.0.1") -> tuple[str, str]:
    """The two ways in which our own address on this machine is written in a Host header; `address` is an IP address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}", f"localhost:{port}"


def foreign(method: str, headers: Mapping[str, str], origins: Collection[str], *, by_token: bool = False) -> str | None:
    """Why a request to a page with these origins is refused, in one sentence; None if it is that page's own or comes
    from the address bar.

    `headers` must look names up case-insensitively. A link on a foreign page may open ours in a top-level window, which
    changes nothing; every other request from a foreign page is refused, including pages on another port. `by_token`: a
    program asks, which need not send an Origin; a page could not send a token without asking first (CORS).
    """
    host = headers.get("Host")
    own = [origin for origin in origins if origin.partition("://")[2] == host]
    if not own:
        return "This page is served only at its own address: use the one that `bottrader up` printed."
    origin = headers.get("Origin")
    safe = method in _SAFE_METHODS
    if origin not in own and not ((safe or by_token) and origin is None):
        return "Only requests from this page itself are accepted."
    opened = safe and headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if headers.get("Sec-Fetch-Site") in _FOREIGN and not opened:
        return "Only requests from this page itself are accepted."
    return None
