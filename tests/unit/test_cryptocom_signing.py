"""Requests to Crypto.com are signed as its documentation says, and no id is used twice."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.cryptocom.signing import CryptocomKey, RequestIds, envelope, parameter_string
from exchange.keys import ApiKeyError

ORDER_LIST = {
    "contingency_type": "LIST",
    "order_list": [
        {"instrument_name": "ONE_USDT", "side": "BUY", "type": "LIMIT", "price": "0.24", "quantity": "1.0"},
        {
            "instrument_name": "ONE_USDT", "side": "BUY", "type": "STOP_LIMIT", "price": "0.27", "quantity": "1.0",
            "trigger_price": "0.26",
        },
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "method", "identity", "params", "nonce", "signature"),
    [
        ("token", "public/auth", 11, {}, 1589594102779,
         "9dcebf6eeec155f829227ee447dee73120e0aead42fab74d38ed5d8271793dc8"),
        ("token", "private/get-order-detail", 11, {"order_id": 53287421324}, 1587846358253,
         "02ef0a52c9428e5d3dcc5dd24d534ca39ef73f35acd3f6945f139a2364ef67a9"),
        ("API_KEY", "private/create-order-list", 14, ORDER_LIST, 1650000000000,
         "ae3316bff7ebcb9c9f9b8267fb298d3e2b6f06899b69a9b8bb19a4e70bbfb86b"),
    ],
)  # fmt: skip
def test_the_documentations_requests(
    key: str, method: str, identity: int, params: dict[str, object], nonce: int, signature: str
) -> None:
    """The documentation's sample requests, with the signatures that openssl gives their texts and "secretKey"."""
    assert CryptocomKey.of(key, "secretKey").sign(method, identity, params, nonce) == signature


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"instrument_name": "BTC_USDT", "count": 10}, "count10instrument_nameBTC_USDT"),
        ({"z": "last", "a": "first", "m": "middle"}, "afirstmmiddlezlast"),
        ({"outer": {"b": "2", "a": "1"}}, "outera1b2"),
        ({"items": [{"b": "2"}, {"a": "1"}]}, "itemsb2a1"),
        ({"list_id_list": ["1", "2"]}, "list_id_list12"),
        ({"exec_inst": ["POST_ONLY"]}, "exec_instPOST_ONLY"),
        ({"key": None, "yes": True, "no": False}, "keynullnofalseyestrue"),
        ({}, ""),
    ],
)
def test_parameters_are_written_without_separators(params: dict[str, object], text: str) -> None:
    """Names in order, lists by element without an index, null as a word, nothing for no parameters."""
    assert parameter_string(params) == text


def test_a_float_is_not_signed() -> None:
    """A number that JSON can write in several ways would have a signature for one of them only."""
    with pytest.raises(TypeError, match="float"):
        parameter_string({"quantity": 0.1})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=5), st.randoms())
def test_the_order_of_parameters_does_not_matter(params: dict[str, object], shuffler: object) -> None:
    """The same parameters in another order, or after a way through JSON, have the same signature."""
    names = list(params)
    shuffler.shuffle(names)  # type: ignore[attr-defined]
    other = json.loads(json.dumps({name: params[name] for name in names}))
    key = CryptocomKey.of("k", "s")
    assert key.sign("private/x", 1, params, 2) == key.sign("private/x", 1, other, 2)


@given(st.lists(st.floats(min_value=0, max_value=4e9), min_size=1, max_size=50))
def test_ids_grow_whatever_the_clock_does(times: list[float]) -> None:
    """Ids are integers that never repeat, also if the clock stands still or goes back; the nonce is the time."""
    clock = iter(times)
    ids = RequestIds(lambda: next(clock))
    made = [ids.next() for _ in times]
    numbers = [identity for identity, _ in made]
    assert all(later > earlier for earlier, later in pairwise(numbers))
    assert all(type(identity) is int and 0 <= identity < 2**63 for identity in numbers)
    assert [nonce for _, nonce in made] == [int(moment * 1000) for moment in times]


def test_an_envelope_has_everything_also_without_parameters() -> None:
    """`params` is there when it is empty; key and signature only if it is signed; the id is a number."""
    ids = RequestIds(lambda: 1_786_916_799.729)
    public = envelope("public/get-tickers", {}, ids)
    assert public == {"id": 1786916799729000, "method": "public/get-tickers", "params": {}, "nonce": 1786916799729}
    key = CryptocomKey.of("k", "s")
    signed = envelope("private/user-balance", {}, ids, key)
    assert signed["id"] == 1786916799729001
    assert signed["sig"] == key.sign("private/user-balance", 1786916799729001, {}, 1786916799729)
    assert signed["api_key"] == "k"


def test_a_key_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    """A file without both parts, and parts that no key has, are told in a sentence without the secret."""
    path = tmp_path / "key.json"
    for word in ("secret_key", "api_secret"):
        path.write_text(json.dumps({"api_key": "k", word: "hidden"}))
        key = CryptocomKey.from_file(path)
        assert (key.name, key.secret) == ("k", "hidden")
    assert "hidden" not in repr(CryptocomKey.of("k", "hidden"))
    for text, words in (
        ("{}", "lacks"), ("[]", "not a JSON object"), ("x", "not JSON"),
        ('{"api_key": "k", "api_secret": "hid den\\u0007"}', "characters"),
        ('{"api_key": "", "api_secret": "hidden"}', "both"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ApiKeyError, match=words) as caught:
            CryptocomKey.from_file(path)
        assert "hid" not in str(caught.value)
    with pytest.raises(ApiKeyError, match="can't be read"):
        CryptocomKey.from_file(tmp_path / "none.json")
