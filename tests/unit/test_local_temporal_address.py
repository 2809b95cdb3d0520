"""The check in `bottrader up` of a given address of a running Temporal."""

from __future__ import annotations

import socket

import pytest

from workers.errors import ExitCode, UnreachableError
from workers.stack.local_temporal import require_listening


async def test_an_address_where_nobody_listens_is_named_with_what_to_do() -> None:
    """An address with a server is used; without one the sentence has the address and what to do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=f"No Temporal answers at {address}, .*TEMPORAL_ADDRESS") as refused:
            await require_listening(address)
        assert (refused.value.code, refused.value.exit_code) == ("NO_TEMPORAL", ExitCode.UNREACHABLE)
        listener.listen()
        await require_listening(address)
