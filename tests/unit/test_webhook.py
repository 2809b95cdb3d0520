"""The webhook's pure parts: symbols, JSON, authentication of senders, alerts as decisions, and rate limits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.waiting import eventually
from web.alert import Alert, Wrong, read_alert
from web.answers import AlertAnswer
from web.app import RequestLimits, create_app
from web.limits import Rates
from web.metrics import WebhookMetrics
from web.old_alert import OldForm, read_old_alert, sells_old
from web.refusals import Refused
from web.senders import Proof, Sender, by_body, by_headers, by_token, signature, without_secrets
from web.strict_json import BadJson, read_json
from web.symbols import BadSymbol, product_of

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
WINDOW = timedelta(seconds=300)
KEY = "0123456789abcdef0123456789abcdef"
KNOWN = ("BTC-USD", "ETH-USD", "PEPE1-USDC")


@pytest.mark.parametrize(
    ("given_symbol", "product"),
    [
        ("BTC-USD", "BTC-USD"),
        ("btc/usd", "BTC-USD"),
        ("BTC_USD", "BTC-USD"),
        (" COINBASE:BTCUSD ", "BTC-USD"),
        ("coinbase:eth-usd", "ETH-USD"),
        ("PEPE1USDC", "PEPE1-USDC"),
        ("XRPUSDT", "XRP-USDT"),
        ("SOLUSD", "SOL-USD"),
        ("ETHBTC", "ETH-BTC"),
    ],
)
def test_symbols_as_charts_write_them_are_products(given_symbol: str, product: str) -> None:
    """Each usual way to write a symbol is the same product."""
    assert product_of(given_symbol, venue="coinbase", known=KNOWN) == product


@pytest.mark.parametrize(
    "given_symbol",
    [
        "",
        "-",
        "USD",
        "BTC",
        "BINANCE:BTCUSDT",
        ":BTCUSD",
        "BTCUSDT.P",
        "BTC-USD-PERP",
        "A-B-C",
        "BTC USD",
        "B;DROP",
        "É-USD",
    ],
)
def test_what_is_no_symbol_is_refused(given_symbol: str) -> None:
    """Another exchange's symbol, a perpetual, or one that can't be split is refused, not guessed."""
    with pytest.raises(BadSymbol):
        product_of(given_symbol, venue="coinbase", known=KNOWN)


def test_two_products_that_are_written_alike_must_be_told_apart() -> None:
    """A symbol that could be two of our products is refused with both."""
    with pytest.raises(BadSymbol, match="A-BUSD or AB-USD"):
        product_of("ABUSD", venue="coinbase", known=("AB-USD", "A-BUSD"))


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(st.characters(exclude_categories=["C"])),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text(st.characters(exclude_categories=["C"])), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_json_writes_is_read_back(value: Any) -> None:
    """All JSON that is not too deep is read as written."""
    assert read_json(json.dumps(value).encode(), max_depth=64) == value


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text('[]{}",:\\0123456789.eE-NaItrufls', max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Any input is read as a value or refused."""
    with contextlib.suppress(BadJson):
        read_json(raw, max_depth=8)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*Alert.model_fields, "nonsense"]),
        st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=20) | st.lists(st.integers()),
        max_size=8,
    )
)
def test_any_object_is_an_alert_or_refused(value: dict[str, Any]) -> None:
    """Any object is an alert or is refused."""
    with contextlib.suppress(Wrong):
        assert read_alert(value).does in ("buy", "sell", "close")


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*OldForm.model_fields, "nonsense"]),
        st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=20) | st.lists(st.integers()),
        max_size=8,
    )
)
def test_any_object_in_the_old_form_is_an_alert_or_refused(value: dict[str, Any]) -> None:
    """For any fields, it is a buy, a close, or refused."""
    with contextlib.suppress(Wrong):
        assert read_old_alert({"pair": "BTC-USD", **value}).does in ("buy", "close")


def test_an_old_sell_is_a_close_whatever_is_only_recorded() -> None:
    """Values that a sell does not need can't prevent it, and it is recognised as a sell before it is parsed in full."""
    sell = {"pair": "BTC/USD", "side": "SELL", "uuid": "u-1", "score": "high", "trigger": 5, "price": "NaN"}
    found = read_old_alert(sell)
    assert (found.does, found.name, found.symbol, found.trigger, found.size_base) == (
        "close",
        "u-1",
        "BTC/USD",
        None,
        None,
    )
    assert sells_old(sell)
    assert not sells_old({"symbol": "BTC-USD", "side": "sell"})


def test_an_old_alert_is_known_by_its_name_or_its_time_or_its_snapshot() -> None:
    """A uuid is the key; else it is made of the timestamp; else of snapshot, product and side."""
    snapshot = "5a3c3f0e-6f6b-4f6c-9d7e-0d6f5c0a1b2c"
    base = {"pair": "BTC-USD", "side": "buy", "snapshot_id": snapshot}
    assert read_old_alert(base).name == f"{snapshot}-BTC-USD-buy"
    assert read_old_alert({**base, "uuid": "u-1"}).name == "u-1"
    timed = read_old_alert({**base, "timestamp": 1_795_253_402_000})
    assert (timed.name, timed.time) == (None, datetime(2026, 11, 21, 9, 30, 2, tzinfo=UTC))
    limited = read_old_alert({**base, "order_type": "limit", "price": 5, "order_amount_fiat": "20"})
    assert (limited.order_type, limited.price, limited.size_quote) == ("LIMIT", Decimal(5), Decimal(20))
    assert read_old_alert({**base, "order_type": "limit"}).order_type is None


def test_the_digest_is_of_what_was_asked_not_of_how() -> None:
    """Other spellings of numbers and another token are the same alert; another amount or note is not."""
    base = {"symbol": "BTC-USD", "action": "buy", "key": "k", "size_quote": "100"}
    same = [{**base, "size_quote": Decimal("100.00")}, {**base, "token": "x"}, {**base, "action": None, "side": "BUY"}]
    other = [{**base, "size_quote": 101}, {**base, "note": "n"}, {**base, "indicators": {"rsi": 1}}]
    digest = read_alert(base).digest("BTC-USD")
    assert {read_alert(item).digest("BTC-USD") for item in same} == {digest}
    assert digest not in {read_alert(item).digest("BTC-USD") for item in other}
    assert read_alert(base).digest("ETH-USD") != digest


def test_the_token_never_shows() -> None:
    """Neither the text nor the fields of an alert have its token."""
    alert = read_alert({"symbol": "BTC-USD", "action": "buy", "key": "k", "token": "open-sesame-open"})
    assert "sesame" not in repr(alert) + json.dumps(alert.model_dump(mode="json"))
    assert "sesame" not in repr(Sender("a", b"sesame", b"sesame"))


def test_linkage_has_every_part_of_the_decision() -> None:
    """Scores, values and weights are kept; an alert without fired indicators counts as the one that fired."""
    given_alert = {"symbol": "BTC-USD", "action": "buy", "key": "k"}
    named = read_alert(
        given_alert
        | {
            "indicators": {
                "rsi": {"value": 27, "fired": True, "weight": "1.5", "contribution": "1.2"},
                "macd": {"value": "-0.5", "fired": True, "contribution": Decimal("0.8")},
                "atr": 400,
            }
        }
    ).linkage("rsi_oversold", KEY)
    assert (named.buy_score, named.indicators_fired) == (Decimal("2.0"), ("macd", "rsi"))
    assert named.indicator_breakdown["atr"].value == 400
    bare = read_alert(given_alert | {"score": "0.7", "price": 50000}).linkage("webhook", KEY)
    assert (bare.buy_score, bare.sell_score, bare.indicators_fired) == (Decimal("0.7"), None, ("alert",))
    sell = read_alert({"symbol": "BTC-USD", "action": "sell", "key": "k", "size_base": 1, "score": 2})
    assert (sell.linkage("MANUAL", KEY).buy_score, sell.linkage("MANUAL", KEY).sell_score) == (None, Decimal(2))


@pytest.mark.parametrize("written", ["2026-11-21T09:30:00Z", "2026-11-21T10:30:00+01:00", 1795253400, "1795253400000"])
def test_times_are_understood_as_charts_write_them(written: object) -> None:
    """ISO 8601 with a zone, seconds and milliseconds are the same time."""
    assert read_alert({"symbol": "BTC-USD", "action": "buy", "time": written}).time == NOW


def test_a_signature_is_what_openssl_makes() -> None:
    """The signature is HMAC-SHA256 over the timestamp, a dot, and the body as sent."""
    raw, stamp = b'{"a": 1}', str(int(NOW.timestamp()))
    made = hmac.new(b"secret", stamp.encode() + b"." + raw, hashlib.sha256).hexdigest()
    assert signature(b"secret", stamp, raw) == made
    senders = (Sender("other", b"another"), Sender("me", b"secret"), Sender("tokens-only", token=b"t"))
    headers = {"x-timestamp": stamp, "x-signature": made.upper()}
    assert by_headers(headers, senders, NOW, WINDOW) is None, "it takes the body"
    proof = by_body(headers, raw, senders)
    assert (proof.sender, proof.signed_at) == ("me", NOW)
    assert by_headers({}, senders, NOW, WINDOW) is None


def test_who_has_no_secret_is_never_found_by_an_empty_one() -> None:
    """A sender without a secret or token is not authenticated by an empty one."""
    raw, stamp = b"{}", str(int(NOW.timestamp()))
    headers = {"x-timestamp": stamp, "x-signature": signature(b"", stamp, raw)}
    with pytest.raises(Refused, match="X-Signature"):
        by_body(headers, raw, (Sender("t", token=b"token"),))
    with pytest.raises(Refused, match="none of the senders"):
        by_token("", (Sender("s", b"secret"),))
    with pytest.raises(Refused, match="none of the senders"):
        by_headers({"authorization": "Bearer "}, (Sender("s", b"secret"),), NOW, WINDOW)


def test_a_bucket_fills_again() -> None:
    """After the burst alerts are accepted at the configured rate, and the refusal says when."""
    clock = [0.0]
    rates = Rates(clock=lambda: clock[0])
    for _ in range(3):
        rates.take("a", per_minute=6, burst=3)
    with pytest.raises(Refused) as refused:
        rates.take("a", per_minute=6, burst=3)
    assert refused.value.headers == {"Retry-After": "10"}
    rates.take("b", per_minute=6, burst=3)
    clock[0] = 10.0
    rates.take("a", per_minute=6, burst=3)
    with pytest.raises(Refused):
        rates.take("a", per_minute=6, burst=3)


def test_too_many_buys_of_a_sender_keep_no_close_of_his_waiting() -> None:
    """TradingView doesn't retry: a close refused because of buys would leave a position open."""
    rates = Rates(clock=lambda: 0.0)
    for closes in (False, True):
        for _ in range(3):
            rates.take("a", per_minute=6, burst=3, closes=closes)
        with pytest.raises(Refused):
            rates.take("a", per_minute=6, burst=3, closes=closes)


async def test_a_fault_of_ours_is_said_and_counted_without_what_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """Any internal error is a sentence, a count and a place in the log; the log has neither token nor alert."""
    metrics = WebhookMetrics()

    async def broken(alert: Alert, proof: Proof) -> AlertAnswer:
        raise ValueError(f"{alert.note} of {proof.sender}")

    async def alive() -> dict[str, bool]:
        return {"nothing": False}

    app = create_app(
        decide=broken,
        alive=alive,
        senders=lambda: (Sender("me", token=b"open-sesame-open"),),
        limits=RequestLimits,
        metrics=metrics,
    )
    alert = {"symbol": "BTC-USD", "action": "buy", "key": "k", "note": "a-private-note", "token": "open-sesame-open"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
        answer = await http.post("/webhook", json=alert)
        assert (await http.get("/ready")).status_code == 503
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "FAULT")
    out = "".join(capsys.readouterr())
    assert "webhook_fault" in out
    assert "sesame" not in out + answer.text
    assert "a-private-note" not in out + answer.text
    assert b'outcome="FAULT"' in metrics.text()


@pytest.mark.parametrize("number", ["1e99999999999999999999", "-1E-99999999999999999999", "1e999", "NaN", "9" * 5000])
def test_what_is_no_number_is_read_as_none_of_ours(number: str) -> None:
    """In any form, it is refused with the name of its field, and parsing it never fails."""
    value = read_json(b'{"symbol": "BTC-USD", "action": "buy", "size_quote": ' + number.encode() + b"}", max_depth=8)
    assert value["size_quote"].is_nan()
    with pytest.raises(Wrong) as wrong:
        read_alert(value)
    assert wrong.value.field == "size_quote"


@pytest.mark.parametrize(
    "more",
    [
        {"indicators": {"rsi": "NaN"}},
        {"indicators": {"rsi": Decimal("NaN")}},
        {"indicators": {"rsi": {"value": "NaN", "fired": "yes"}, "x" * 70: 1}},
        {"indicators": "none"},
        {"price": 65_000},
        {"price": "65,000", "score": "high", "buy_score": [], "sell_score": True},
        {"snapshot_id": "7", "note": 5},
        {"order_type": "MARKET"},
    ],
)
def test_a_close_needs_nothing_that_is_for_the_record(more: dict[str, Any]) -> None:
    """An unreadable value that an exit doesn't need is stored as none; a buy with it may be refused."""
    alert = read_alert({"key": "x", "symbol": "BTC-USD", "action": " Close ", **more})
    assert (alert.does, alert.name, alert.symbol) == ("close", "x", "BTC-USD")
    rsi = alert.indicators.get("rsi")
    assert rsi is None or rsi.value is None
    assert json.dumps(alert.model_dump(mode="json")), "it can be stored"


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"size_base": "1"}, ""),
        ({"dry_run": True}, ""),
        ({"order_type": "LIMIT", "price": 5}, ""),
        ({"size_bsae": "1", "indicators": {"rsi": "NaN"}}, "size_bsae"),
        ({"time": "NaN", "price": "NaN"}, "time"),
        ({"key": "a key"}, "key"),
    ],
)
def test_a_close_that_might_mean_something_else_is_refused(more: dict[str, Any], field: str) -> None:
    """An alert that would sell less, later or nothing is not read as a close of everything."""
    with pytest.raises(Wrong) as wrong:
        read_alert({"key": "x", "symbol": "BTC-USD", "action": "close", **more})
    assert wrong.value.field == field


def test_a_token_in_the_body_is_found_before_the_body_is_read() -> None:
    """By its bytes, also if the rest is not JSON; a text that only mentions a token, or is not a text, has none."""
    senders = (Sender("me", token=b'quo"ted-token-of-me'), Sender("you", token=b"a-token-of-yours"))
    assert by_body({}, b'{"token" : "a-token-of-yours", "rsi": {{plot}}', senders).sender == "you"
    assert by_body({}, b'{"token":"quo\\"ted-token-of-me"}', senders).sender == "me"
    assert by_body({}, b'{"token":"\\u0061-token-of-yours"}', senders).sender == "you"
    for raw in (
        b"{}",
        b'{"note": "\\"token\\": \\"a-token-of-yours\\""}',
        b'{"token": 5}',
        b'{"token": "\\ud800"}',
        b'{"token": "\\q"}',
        b'{"token": "\xff"}',
        b'{"token": ""}',
        b'{"token": "a-token-of-your"}',
        b'"token":' * 2000,
    ):
        with pytest.raises(Refused) as refused:
            by_body({}, raw, senders)
        assert refused.value.status == 401


def test_no_secret_of_a_sender_stays_in_a_sentence() -> None:
    """Whole, truncated, in other case or twice: messages to people have none."""
    senders = (Sender("a", secret=b"secret-of-the-Strategist"), Sender("b", token=b"0123456789abcdef0123"))
    text = "0123456789ABCDEF0123 and secret-of-the-str… is no field; 0123456789abcdef0123"
    assert without_secrets(text, senders) == "*** and ***… is no field; ***"
    assert without_secrets("size_qoute is no field", senders) == "size_qoute is no field"


async def test_however_many_ask_whether_it_is_ready_one_look_serves_them() -> None:
    """Many requests to /ready cost the database no more than one."""
    metrics, asked, looks, may_answer = WebhookMetrics(), 0, 0, asyncio.Event()

    async def decide(alert: Alert, proof: Proof) -> AlertAnswer:
        raise NotImplementedError

    async def alive() -> dict[str, bool]:
        nonlocal looks
        looks += 1
        await may_answer.wait()
        return {"database": True}

    app = create_app(decide=decide, alive=alive, senders=lambda: (), limits=RequestLimits, metrics=metrics)

    async def door(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await app(scope, receive, send)

    async def all_are_in() -> bool:
        return asked == 50 and looks > 0

    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://here") as http:
        asking = [asyncio.create_task(http.get("/ready")) for _ in range(50)]
        await eventually(all_are_in, within=20, what="all have asked")
        may_answer.set()
        answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert looks == 1
