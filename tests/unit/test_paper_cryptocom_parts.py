"""Pure parts of the paper Crypto.com: signatures, the answer table, instruments, limits, how numbers are written."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.paper.config import CRYPTOCOM, Live, PaperConfig, check
from exchange.paper.cryptocom.answers import CODES
from exchange.paper.cryptocom.instruments import bundled_instruments, described, load_instruments
from exchange.paper.cryptocom.limits import PaperLimits
from exchange.paper.cryptocom.render import placed
from exchange.paper.cryptocom.signing import PaperSecret, parameters, signature
from exchange.paper.errors import PaperError


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, ""),
        ({"b": "2", "a": "1"}, "a1b2"),
        ({"limit": 5, "flag": True, "none": None}, "flagtruelimit5nonenull"),
        ({"list_id_list": ["1", "2"]}, "list_id_list12"),
        ({"exec_inst": ["POST_ONLY"]}, "exec_instPOST_ONLY"),
        ({"order_list": [{"side": "SELL", "price": "1"}, {"price": "2"}]}, "order_listprice1sideSELLprice2"),
    ],
)
def test_parameters_are_written_in_order_without_separators(params: dict[str, object], text: str) -> None:
    """Keys in alphabetical order before their values, lists element by element, null as text."""
    assert parameters(params) == text


def test_a_list_inside_a_list_may_have_brackets() -> None:
    """Of the two ways in the venue's own samples both are taken, for lists inside a list of orders only."""
    params = {"exec_inst": ["A"], "order_list": [{"exec_inst": ["POST_ONLY"]}]}
    assert parameters(params) == "exec_instAorder_listexec_instPOST_ONLY"
    assert parameters(params, bracketed=True) == "exec_instAorder_listexec_inst[POST_ONLY]"


def test_a_key_is_kept_and_signs_alone(tmp_path: Path) -> None:
    """A key file is made once, readable by its owner only, and reused; one byte more or less in a request fails."""
    secret = PaperSecret(tmp_path)
    assert secret.file.stat().st_mode & 0o077 == 0
    key = json.loads(secret.file.read_text(encoding="utf-8"))
    assert PaperSecret(tmp_path).api_key == key["api_key"]
    body: dict[str, object] = {"id": 1, "method": "private/user-balance", "nonce": 5, "api_key": key["api_key"]}
    body["sig"] = signature("private/user-balance", 1, key["api_key"], "a1", 5, key["secret_key"])
    assert secret.signed(body, {"a": "1"})
    for changed in ({"id": 2}, {"nonce": 6}, {"method": "private/get-trades"}, {"api_key": "x"}, {"sig": None}):
        assert not secret.signed({**body, **changed}, {"a": "1"})
    assert not secret.signed(body, {"a": "2"})
    secret.file.write_text("{}", encoding="utf-8")
    with pytest.raises(PaperError, match="not an API key file"):
        PaperSecret(tmp_path)


def test_http_statuses_are_those_of_the_venues_table() -> None:
    """Plain refusals come with 500, not-found with 200: the status alone says nothing about what happened."""
    assert {code: CODES[code][1] for code in (306, 415, 40401, 43012, 204, 42901, 40801, 40101, 50001)} == {
        306: 500,
        415: 500,
        40401: 200,
        43012: 200,
        204: 400,
        42901: 429,
        40801: 408,
        40101: 401,
        50001: 400,
    }


@given(st.integers(min_value=1, max_value=10**12), st.integers(min_value=0, max_value=9))
def test_numbers_have_the_places_of_their_tick(steps: int, places: int) -> None:
    """A price on the grid is written exactly, with as many places as its tick has."""
    tick = Decimal(1).scaleb(-places)
    text = placed(steps * tick, tick)
    assert Decimal(text) == steps * tick
    assert len(text.partition(".")[2]) == places


def test_instruments_are_described_as_recorded() -> None:
    """The places of a tick are counted, none where the tick is 1000; names are split into base and quote."""
    rows = {name: described(product) for name, product in bundled_instruments().items()}
    assert (rows["AAVE_USD"]["quote_decimals"], rows["AAVE_USD"]["quantity_decimals"]) == (3, 3)
    assert (rows["A2Z_USD"]["qty_tick_size"], rows["A2Z_USD"]["quantity_decimals"]) == ("1000", 0)
    assert (rows["BTC_USDT"]["base_ccy"], rows["BTC_USDT"]["quote_ccy"]) == ("BTC", "USDT")
    assert rows["BTC_USDT"]["display_name"] == "BTC/USDT"


@pytest.mark.parametrize("text", ["{", "[1]", '[{"symbol": "A_B", "price": "x"}]', '[{"symbol": "A_B"}]'])
def test_a_wrong_file_of_instruments_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """What is not a list of instruments with prices and ticks is named as such."""
    file = tmp_path / "instruments.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PaperError, match="is not a list of instruments"):
        load_instruments(file)
    with pytest.raises(PaperError, match="Cannot read"):
        load_instruments(tmp_path / "nothing.json")


def test_limits_are_by_method() -> None:
    """15 orders in a tenth of a second, one history a second, 3 of other reads, 100 public ones; apart by method."""
    limits = PaperLimits(private=True, public=True)

    def taken(method: str, at: float, count: int) -> int:
        return [limits.admit(method, at) for _ in range(count)].count(True)

    assert taken("private/create-order", 1.0, 20) == 15
    assert taken("private/create-order", 1.05, 20) == 0
    assert taken("private/create-order", 1.2, 20) == 15
    assert taken("private/cancel-order", 1.2, 20) == 15
    assert taken("private/get-order-detail", 1.0, 40) == 30
    assert taken("private/get-order-history", 1.0, 2) == 1
    assert taken("private/get-order-history", 1.9, 2) == 0
    assert taken("private/advanced/create-oco", 1.0, 9) == 3
    assert taken("public/get-tickers", 1.0, 200) == 100
    assert PaperLimits(private=False, public=False).admit("private/get-order-history", 1.0)


def test_a_venue_is_known_and_its_prices_are_its_own() -> None:
    """An unknown venue, and Coinbase's live prices for another venue, are refused in a sentence."""
    with pytest.raises(PaperError, match="coinbase, cryptocom"):
        check(PaperConfig(venue="elsewhere"))
    with pytest.raises(PaperError, match="Live prices"):
        check(PaperConfig(venue=CRYPTOCOM, source=Live()))
