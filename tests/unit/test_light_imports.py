"""Modules that a process loads at its start: workers start at each deploy, each restart and in many tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from workers.settings.postgres_address import asyncpg_address, plain_address

ROOT = Path(__file__).parents[2]
FOR_FEW = ("apprise", "opentelemetry", "pandas", "prometheus_client", "sqlalchemy", "talib")
"""Slow to load, and needed only with strategies, metrics or notices, or for migrations."""


@pytest.mark.parametrize("module", ["workers.runner", "cli.trading"])
def test_a_process_loads_no_library_that_only_some_need(module: str) -> None:
    """Loading these libraries took two fifths of a worker's start."""
    code = f"import json, sys, {module}\nprint(json.dumps([name for name in {FOR_FEW!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
ADDRESSES = st.builds(
    lambda user, password, host, port, name, query: f"postgresql://{user}{password}{host}{port}/{name}{query}",
    st.one_of(st.just(""), WORDS.map(lambda word: f"{word}@"), WORDS),
    st.one_of(st.just(""), WORDS.map(lambda word: f":{word}@"), st.sampled_from([":%2F@", ":@", "@"])),
    st.one_of(st.just(""), WORDS, st.sampled_from(["[::1]", "a,b", "h%20"])),
    st.one_of(st.just(""), st.integers(0, 99_999).map(lambda port: f":{port}")),
    st.one_of(st.just(""), WORDS),
    st.one_of(
        st.just(""),
        st.from_regex(r"\?host=/[a-z0-9._/-]{1,20}(&port=[0-9]{1,5})?", fullmatch=True),
        st.sampled_from(["?host=a%20b", "?sslmode=require", "?host=a&host=b", "?", "?host=a+b"]),
    ),
)


@given(ADDRESSES)
def test_a_plain_address_is_read_as_sqlalchemy_reads_it(address: str) -> None:
    """The result without SQLAlchemy is exactly SQLAlchemy's."""
    plain = plain_address(address)
    if plain is not None:
        assert plain == make_url(address).render_as_string(hide_password=False)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://postgres@/bottrader?host=/data/postgres",
        "postgresql://postgres@/bottrader?host=/data/postgres&port=5433",
        "postgresql://bottrader:s3cret_-@127.0.0.1:5432/bottrader",
        "postgresql://db/bottrader",
    ],
)
def test_the_usual_addresses_are_plain(address: str) -> None:
    """The local stack's and the usual addresses need no SQLAlchemy; one with escapes uses it."""
    with mock.patch.dict(sys.modules, {"sqlalchemy.engine": None}):
        assert asyncpg_address(address)
    assert asyncpg_address("postgresql+asyncpg://u:%2F@h/d") == "postgresql://u:%2F@h/d"
