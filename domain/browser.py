"""Which requests a browser may make to a page of ours on this machine. Pure rules.

A page from anywhere can make the owner's browser send requests to 127.0.0.1, and a name that such a page owns may lead
there, too (DNS rebinding). A browser says truthfully whom it asks (Host), for whom (Origin), and how the two are
related (Sec-Fetch-*): a page can't forge these. So what isn't exactly ours is refused.
"""

from collections.abc import Mapping

__all__ = ["refusal"]

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_FOREIGN = frozenset({"cross-site", "same-site"})


def own_hosts(port: int) -> tuple[str, str]:
    """The two ways in which our own address is written in a Host header."""
    return f"127.0.0.1:{port}", f"localhost:{port}"


def refusal(method: str, headers: Mapping[str, str], port: int) -> str | None:
    """Why a request to our `port` is refused, in one sentence; None for one of our own page or of the address bar.

    `headers` must find a name however it is written. A link on a foreign page may open ours at the top of a window,
    which changes nothing; everything else that a foreign page asks for is refused, another port's page included.
    """
    host = headers.get("Host")
    if host not in own_hosts(port):
        return "This page answers only at its own address: see what `bottrader up` printed."
    origin = headers.get("Origin")
    safe = method in _SAFE_METHODS
    if origin != f"http://{host}" and not (safe and origin is None):
        return "Only this page itself may ask for that."
    opened = safe and headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if headers.get("Sec-Fetch-Site") in _FOREIGN and not opened:
        return "Only this page itself may ask for that."
    return None
