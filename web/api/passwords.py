"""Passwords of users: scrypt digests, made by `bottrader api password`, with 32 MB of memory for each try.

A digest is text: `scrypt$<log2 n>$<r>$<p>$<salt>$<hash>`, the last two in hexadecimal.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

__all__ = ["SHORTEST", "digest_of", "matches"]

SHORTEST = 12
"""Characters of a password."""
_LONGEST = 1024
_LOG_N, _R, _P = 15, 8, 1
_MEMORY = 2**26


def digest_of(password: str) -> str:
    """The digest of a new password. Raises ValueError for one that is too short or too long."""
    if not SHORTEST <= len(password) <= _LONGEST:
        raise ValueError(f"a password has {SHORTEST} to {_LONGEST} characters")
    salt = secrets.token_bytes(16)
    return f"scrypt${_LOG_N}${_R}${_P}${salt.hex()}${_scrypt(password, salt, _LOG_N, _R, _P).hex()}"


def matches(password: str, digest: str | None) -> bool:
    """Whether it is the digest's password. With None it takes as long, so nobody learns which users exist.

    Takes about a tenth of a second: call it in a thread.
    """
    _, log_n, r, p, salt, wanted = (digest or _NOBODYS).split("$")
    if len(password) > _LONGEST:
        return False
    found = _scrypt(password, bytes.fromhex(salt), int(log_n), int(r), int(p))
    return hmac.compare_digest(found, bytes.fromhex(wanted)) and digest is not None


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    raw = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(raw, salt=salt, n=2**log_n, r=r, p=p, maxmem=_MEMORY, dklen=32)


_NOBODYS = f"scrypt${_LOG_N}${_R}${_P}${'00' * 16}${'00' * 32}"
