"""Coinbase's own files, each form since 2018: the right lots, or a sentence about the line, and no half-booked row."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fifo import Book, FifoError
from fifo.amounts import UNIT, text_of
from fifo.notes import Converted, Traded, converted, may_be, said, traded, unclear
from fifo.reading import Reading, read_fills, read_stated

FILES = Path(__file__).parents[1] / "data" / "coinbase"
HEADING = (
    "ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Price at Transaction,Subtotal,"
    "Total (inclusive of fees and/or spread),Fees and/or Spread,Notes\n"
)
EUROS_2019 = (
    "Timestamp,Transaction Type,Asset,Quantity Transacted,EUR Spot Price at Transaction,EUR Subtotal,"
    "EUR Total (inclusive of fees),EUR Fees,Notes\n"
)
FILLS = "portfolio,trade id,product,side,created at,size,size unit,price,fee,total,price/fee/total unit\n"


def read_text(text: str) -> Reading:
    """A file of this text, read in both ways: for matching and for the ledger."""
    lines = text.encode().splitlines(keepends=True)
    reading, stated = read_stated(lines)
    assert reading == read_fills(lines)
    assert len(stated) == len(reading)
    return reading


def row(
    *,
    fill_id: str = "x",
    kind: str = "Buy",
    asset: str = "ETH",
    size: str = "10",
    currency: str = "USD",
    price: str = "3000",
    subtotal: str = "30000",
    total: str = "30180",
    fee: str = "180",
    notes: str = "",
) -> str:
    """A line of the current form."""
    return (
        f"{fill_id},2024-02-05 10:00:00 UTC,{kind},{asset},{size},{currency},{price},{subtotal},{total},{fee},{notes}\n"
    )


def fills(reading: Reading) -> list[str]:
    """Each fill as symbol, side, size, and its cost or net proceeds."""
    entries = sorted(entry for group in reading.fills.values() for entry in group)
    return [
        f"{entry.symbol} {'buy' if entry.buy else 'sell'} {text_of(entry.size)} {text_of(entry.amount)}"
        for entry in entries
    ]


def shown(reading: Reading) -> list[str]:
    """Sells with proceeds and cost, and the remaining lots."""
    book = Book()
    book.extend_entries([entry for group in reading.fills.values() for entry in group])
    sells = [f"{sale.symbol} sold {sale.size}: {sale.proceeds} - {sale.cost_basis}" for sale in book.sales()]
    return [*sells, *(f"{lot.symbol} left {lot.size}: {lot.cost}" for lot in book.lots())]


def only(text: str) -> tuple[str, str]:
    """Code and sentence of the one bad line; nothing of it is booked."""
    reading = read_text(HEADING + text)
    (bad,) = reading.bad
    assert not reading.fills
    return bad.code, bad.sentence


@pytest.mark.parametrize(
    ("name", "lots", "left_out"),
    [
        (
            "transactions_2018_eur.csv",
            [
                # The assets given for 0.8 LTC are worth these and the fee.
                "BTC-EUR sold 0.004: 40 - 40",
                "BTC-EUR sold 0.006: 64 - 60",
                "LTC-EUR sold 0.8: 47 - 40",
            ],
            {"Receive": 1, "Coinbase Earn": 1, "Send": 1},
        ),
        ("transactions_2018_usd.csv", ["BTC-USD sold 0.5: 3700 - 3400", "BTC-USD left 0.5: 3400"], {}),
        (
            "transactions_2021.csv",
            ["ETH-EUR sold 0.25: 590 - 456.25", "ETH-EUR left 0.25: 456.25"],
            {"Rewards Income": 1},
        ),
        (
            "transactions_2022.csv",
            [
                "BTC-GBP sold 0.5: 19 - 15.5",
                "BTC-GBP sold 100: 4980 - 3100",
                "BTC-GBP left 900: 27900",
                "SHIB-GBP left 100: 0.002",
                # The proceeds of the coins, net of the fee, are worth the received asset.
                "USDT-GBP left 6474: 4980",
            ],
            {"Learning Reward": 1},
        ),
        (
            "transactions_2024.csv",
            [
                "BTC-USD sold 0.25: 14900 - 10000",
                "BTC-USD sold 0.503: 30180 - 20120",
                "ETH-USD sold 1: 2982 - 3018",
                "USDC-USD sold 92: 92 - 92",
                "BTC-USD left 0.247: 9880",
                "BTC-USD left 0.001: 92",
                "ETH-USD left 9: 27162",
                # Traded for euros, and so valued in euros.
                "SOL-EUR left 10: 1010",
                "USDC-USD left 2890: 2890",
            ],
            {"Send": 1, "Staking Income": 1},
        ),
        (
            "fills_pro.csv",
            [
                # The total distinguishes a rebate from a fee that is printed as negative.
                "BTC-EUR sold 0.5: 2000.5 - 1754.375",
                "BTC-EUR left 0.5: 1754.375",
                "BTC-EUR left 1: 3508.75",
                "ETH-BTC left 10: 0.350525",
            ],
            {},
        ),
    ],
)
def test_each_form_has_its_right_lots(name: str, lots: list[str], left_out: dict[str, int]) -> None:
    """As downloaded: preamble, byte order mark, signs, separators, rows that are not trades; nothing is bad."""
    reading = read_text((FILES / name).read_text())
    assert shown(reading) == lots
    assert reading.left_out == left_out
    assert reading.bad == []
    assert reading.doubts == {}


def test_a_row_paid_with_a_coin_takes_that_coin() -> None:
    """Half a bitcoin is sold at its worth and with its cost; if Notes are without the fee, the row has it."""
    before = row(fill_id="a1", asset="BTC", size="1", price="40000", subtotal="40000", total="40000", fee="0")
    across = row(kind="Advanced Trade Buy", notes="Bought 10 ETH for 0.5 BTC on ETH-BTC at 0.05 BTC/ETH")
    text = HEADING + before.replace("02-05", "01-05") + across
    reading = read_text(text)
    assert shown(reading) == ["BTC-USD sold 0.5: 30000 - 20000", "BTC-USD left 0.5: 20000", "ETH-USD left 10: 30180"]
    assert [entry.id for entry in reading.fills["BTC-USD"]] == ["a1", "x/BTC"]
    assert read_text(text + across).repeated == 1


@given(
    st.booleans(),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.integers(0, 10**7),
    st.sampled_from(["BTC", "SOL", "EUR"]),
)
def test_a_cross_pair_moves_nothing_of_the_currency_that_it_is_valued_in(
    buy: bool, size: int, price: int, fee: int, quote: str
) -> None:
    """For any numbers, one side's proceeds in that currency equal the other's cost, to the last digit."""
    bare = Fraction(size * price, 10**6)
    amount = bare * 1001 / 1000 if buy else bare * 999 / 1000
    value, fee = size * price * 2, min(fee, size * price)
    notes = f"{'Bought' if buy else 'Sold'} {size} ETH for {float(amount):.6f} {quote} on ETH-{quote}"
    reading = read_text(
        HEADING
        + row(
            kind=f"Advanced Trade {'Buy' if buy else 'Sell'}",
            size=str(size if buy else -size),
            price=str(price * 2),
            subtotal=str(value),
            total=str(value + fee if buy else value - fee),
            fee=str(fee),
            notes=notes,
        )
    )
    if float(f"{float(amount):.6f}") == 0:
        assert len(reading.bad) == 1
        return
    assert not reading.bad
    moved: dict[str, int] = {}
    for group in reading.fills.values():
        for entry in group:
            base, _, against = entry.symbol.partition("-")
            sign = 1 if entry.buy else -1
            moved[base] = moved.get(base, 0) + sign * entry.size
            moved[against] = moved.get(against, 0) - sign * entry.amount
    assert moved.get("USD", 0) == 0
    assert moved["ETH"] == (1 if buy else -1) * size * UNIT
    assert abs(moved[quote]) == int(f"{float(amount):.6f}".replace(".", "")) * UNIT // 10**6


@given(st.booleans(), st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**4), st.booleans())
def test_the_forms_agree(buy: bool, size: int, cents: int, fee: int, negative: bool) -> None:
    """The same trade in the heading and spelling of each form is the same fill."""
    side = "Buy" if buy else "Sell"
    fee = min(fee, cents)
    value, paid = f"{cents // 100}.{cents % 100:02d}", f"{fee // 100}.{fee % 100:02d}"
    whole = cents + fee if buy else cents - fee
    total = f"{whole // 100}.{whole % 100:02d}"
    signed = size if buy or not negative else -size
    at = "2021-01-01T00:00:00Z"
    start = "Timestamp,Transaction Type,Asset,Quantity Transacted,"
    spot = "Spot Price Currency,Spot Price at Transaction,Subtotal,"
    euros = "EUR Spot Price at Transaction,EUR Subtotal,EUR Total (inclusive of fees),EUR Fees,Notes"
    texts = [
        f"{start}{euros}\n{at},{side},LTC,{size},,{value},{total},{paid},\n",
        f"{start}{spot}Total (inclusive of fees),Fees,Notes\n{at},{side},LTC,{size},EUR,,{value},{total},{paid},\n",
        f"\ufeff{start}{spot}Fees and/or Spread\n{at},{side},LTC,{signed},eur,,{value},-{paid}\n",
        f'{HEADING}z,{at},Advanced Trade {side},LTC,"{signed:,}",EUR,,€{value},€{total},-€{paid},\n',
        f'{HEADING}z,{at},{side},LTC,{signed},EUR,,"-€{int(value[:-3]):,}.{value[-2:]}",-€{total},€{paid},\n',
    ]
    assert len({tuple(fills(read_text(text))) for text in texts}) == 1


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (row(size='"0,500"'), "NOT_A_NUMBER", "Quantity is not a number: '0,500'"),
        (row(size='"1,500"', subtotal="4500", total="4500", fee="0"), "CONTRADICTION", "is a comma a decimal one"),
        (row(size="-10"), "SIZE_NOT_POSITIVE", "Quantity of a Buy"),
        (row(currency=""), "MISSING_FIELD", "Price Currency is missing"),
        (row(subtotal="€30000"), "CONTRADICTION", "is not in USD"),
        (row(subtotal="$30000", currency="EUR"), "CONTRADICTION", "is not in EUR"),
        (row(asset="USD", price="1", subtotal="10", total="10", fee="0"), "CONTRADICTION", "both USD"),
        (row(price="-3000"), "PRICE_NOT_POSITIVE", "Price must not be negative"),
        (row(price="", subtotal="", total=""), "MISSING_FIELD", "Price and Subtotal are missing"),
        (row(price="", subtotal="0.00", total="0", fee="0"), "PRICE_NOT_POSITIVE", "neither Price nor Notes"),
        (row(price="0.00", subtotal="0.00", total="7", fee="0"), "CONTRADICTION", "0 was traded"),
        (row(size="0.1", currency="BTC", price="0.05", subtotal="0.05", total="0.05"), "CONTRADICTION", "0.005 and"),
        (row(size="1", currency="BTC", price="0.05", subtotal="0.05", total="0.01", fee="0"), "CONTRADICTION", "Total"),
        (row(size="1", currency="BTC", price="0.1", subtotal="0.1", total="", fee="0.14"), "CONTRADICTION", "Fees are"),
        (row(size="1", currency="BTC", price="0.05", subtotal="", total="5", fee=""), "CONTRADICTION", "Price is 0.05"),
        (row(notes="Filled on ETH-BTC"), "OTHER_SIDE_MISSING", "traded for BTC"),
        (row(notes='"Bought 10 ETH for 0,5 BTC on ETH-BTC"'), "OTHER_SIDE_MISSING", "traded for BTC"),
        (row(notes="Bought 10 ETH for 0 BTC on ETH-BTC"), "OTHER_SIDE_MISSING", "traded for BTC"),
        (row(notes="Bought 10 LTC for 0.5 BTC on LTC-BTC"), "CONTRADICTION", "Asset is ETH"),
        (row(notes="Bought 11 ETH for 0.5 BTC on ETH-BTC"), "CONTRADICTION", "Notes say 11"),
        (row(notes="Bought 10 ETH for 5 BTC on ETH-BTC at 0.05 BTC/ETH"), "CONTRADICTION", "makes 0.5 of it"),
        (row(notes="Bought 10 ETH for 30180 USD on ETH-BTC"), "CONTRADICTION", "a pair with BTC and an amount of USD"),
        (row(kind="Convert", notes="Converted it"), "OTHER_SIDE_MISSING", "converted to what"),
        (row(kind="Convert", notes="Converted 10 LTC to 0.5 BTC"), "CONTRADICTION", "Asset is ETH"),
        (row(kind="Convert", notes="Converted 12 ETH to 0.5 BTC"), "CONTRADICTION", "Notes say 12"),
        (row(kind="Convert", fill_id="", notes=""), "OTHER_SIDE_MISSING", "converted to what"),
        (row().replace("2024-02-05 10:00:00 UTC", "02/05/2018"), "NOT_A_TIME", "without hour and zone"),
        (row(subtotal="¥30000"), "CONTRADICTION", "Subtotal '¥30000' is not in USD"),
        (row(fee="CA$180"), "CONTRADICTION", "Fees 'CA$180' is not in USD"),
        (row(total="EUR 30180"), "CONTRADICTION", "Total 'EUR 30180' is not in USD"),
        (row(price="kr 3000"), "CONTRADICTION", "Price 'kr 3000' is not in USD"),
        (row(size="$10"), "CONTRADICTION", "Quantity '$10' is not in ETH"),
        (row(total="99999"), "CONTRADICTION", "30000 was traded, Fees are 180 and Total is 99999"),
        (row(subtotal="0.00", fee="0", total="30180"), "CONTRADICTION", "Subtotal is zero"),
        (row(kind="Sell", size="10", subtotal="30000", total="30000", fee="30100"), "CONTRADICTION", "Fees are 30100"),
        (row(fee='"31,500"', total=""), "CONTRADICTION", "Fees are 31500, and more than 30000"),
        (row(fee="", total='"101,500"'), "CONTRADICTION", "Fees are 71500, and more than 30000"),
        (row(subtotal="", total="", fee="30100"), "CONTRADICTION", "Fees are 30100, and more than 30000"),
        (row(price="5000"), "CONTRADICTION", "Quantity times Price is 50000 and Subtotal is 30000"),
        (row(notes="Bought 10 LTC for 30180 USD on LTC-USD"), "CONTRADICTION", "Notes name LTC, Asset is ETH"),
        (row(notes="Bought 12 ETH for 30180 USD"), "CONTRADICTION", "Quantity is 10, and Notes say '12'"),
        (row(notes='"Bought 10 ETH for 301.80 USD"'), "CONTRADICTION", "Subtotal is 30000, and Notes say '301.80'"),
        (row(notes="Bought 10 ETH for 30180 USD on ETH-USD at 300 USD/ETH"), "CONTRADICTION", "Notes say '300'"),
        (row(notes='"Bought 10 ETH for 50,300 BTC"'), "CONTRADICTION", "Notes say 50300 BTC with a comma"),
        (row(kind="Convert", notes='"Converted 10 ETH to 1,200 BTC"'), "CONTRADICTION", "Notes say 1200 BTC"),
        (row(notes="Bought 10 ETH for 301800 USDC"), "CONTRADICTION", "301800 USDC, and Subtotal is 30000 USD"),
        (row(notes="Bought 10 ETH for 301800 USDC on ETH-USDC at 30000 USDC/ETH"), "CONTRADICTION", "Notes say 301800"),
        (row(kind="Convert", notes="Converted 10 ETH to 300000 USDC"), "CONTRADICTION", "Notes say 300000 USDC"),
        (row(notes="Sold 10 ETH for 0.5 BTC on ETH-BTC"), "CONTRADICTION", "Notes say Sold, Transaction Type is"),
        (row(notes="Sold 10 ETH for 30180 USD"), "CONTRADICTION", "Notes say Sold, Transaction Type is"),
        (row(notes="Converted 10 ETH to 0.5 BTC"), "CONTRADICTION", "Notes say Converted, Transaction Type is"),
        (row(kind="Sell", size="-10", notes="Bought 10 ETH for 29820 USD"), "CONTRADICTION", "Notes say Bought"),
        (row(asset="BTC-EUR"), "NOT_A_ROW", "Asset 'BTC-EUR' is not a name"),
        (row(currency="US$"), "NOT_A_ROW", "Price Currency 'US$' is not a name"),
        (row(kind="Buy Back Reward"), "UNKNOWN_SIDE", "may be a trade"),
        (row(notes='"a memo\n'), "NOT_A_ROW", "goes on in the next line"),
    ],
)  # fmt: skip
def test_a_row_that_can_not_be_understood_is_refused(text: str, code: str, words: str) -> None:
    """The message has the field and the error; nothing of the row is booked."""
    found = only(text)
    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize(
    ("heading", "text", "words"),
    [
        (EUROS_2019, '2022-01-01T00:00:00Z,Buy,ADA,100,1,100,"101,500","1,500",\n', "Total is 101500"),
        (
            HEADING.replace("Subtotal", "USD Subtotal"),
            row(currency="EUR"),
            "Price Currency is EUR, and the heading names USD",
        ),
        (FILLS, 'd,1,BTC-USD,BUY,2024-01-01T00:00:00Z,"1,500",BTC,50000,10,-75010,USD\n', "they don't add up"),
        (FILLS, 'd,1,BTC-USD,BUY,2024-01-01T00:00:00Z,1,BTC,50000,"10,000",-50010,USD\n', "they don't add up"),
        (FILLS, "d,1,ETH-BTC,SELL,2024-01-01T00:00:00Z,1,ETH,0.05,0.0001,0.0599,BTC\n", "they don't add up"),
        (FILLS, "d,1,ETH-BTC,BUY,2024-01-01T00:00:00Z,0.1,ETH,0.05,0,-0.01,BTC\n", "they don't add up"),
        (FILLS, "d,1,BTC-USD,BUY,2024-01-01T00:00:00Z,1,BTC,€50000,10,-50010,USD\n", "price '€50000' is not in USD"),
        (FILLS, "d,1,BTC-USD,BUY,2024-01-01T00:00:00Z,$1,BTC,50000,10,-50010,USD\n", "size '$1' is not in BTC"),
    ],
)
def test_what_a_row_of_another_report_contradicts(heading: str, text: str, words: str) -> None:
    """Fields that don't add up, a heading in one currency over a column in another, a wrong currency sign."""
    (bad,) = read_text(heading + text).bad
    assert words in bad.sentence


@pytest.mark.parametrize(
    "text",
    [
        row(notes='"Bought 10,000 ETH for 30.180,00 € EUR"', currency="EUR"),
        row(notes='"Bought 10 ETH for $30,180.00 USD using a card"'),
        row(size="1.12345678", price="3000", subtotal="3370.37", total="3400", fee="29.63",
            notes='"Bought 1,123 ETH for 3.400,00 USD"'),
        row(notes="Bought 10.0000 ETH for 30180 USD on ETH-USD at 3018.00 USD/ETH"),
        row(asset="POL", notes="Bought 10 MATIC for 30180 USD"),
        row(subtotal="$30000", total="USD 30180", fee="US$180"),
        row(currency="CHF", subtotal="CHF 30000", total="Fr 30180"),
        row(currency="USDC", subtotal="$30000"),
        row(currency="CAD", subtotal="CA$30000", total="$30180"),
        row(size="1000000", price="0.00", subtotal="3.25", total="4.24", fee="0.99"),
        row(size="2", currency="JPY", price="¥1", subtotal="¥3", total="¥4", fee="¥0"),
        row(size="0.004", currency="BTC", price="0.05", subtotal="0.00", total="0.00", fee="0.00"),
        row(size="1000000", price="0.01", subtotal="5001", total="5001", fee="0"),
        row(size="0.00001", price="3000", subtotal="0.01", total="1.00", fee="0.99"),
        row(price="3300"),
        row(kind="Sell (Coinbase Card)", size="-10", total="29820"),
        row(kind="Recurring Buy (weekly)"),
        row(notes='"Bought 10 ETH for 30,180 USDT on ETH-USDT"'),
    ],
)  # fmt: skip
def test_what_real_rows_round_and_spread_is_no_contradiction(text: str) -> None:
    """Prices of a cent, flat fees on dust, spot beside execution price, decimal commas in Notes, an asset's older
    name."""
    reading = read_text(HEADING + text)
    assert reading.bad == []
    assert len(reading) in (1, 2)


@given(
    st.booleans(),
    st.integers(1, 10**12),
    st.integers(1, 10**8),
    st.integers(0, 400),
    st.integers(-150, 150),
    st.sampled_from([10, 100, 1000, 10**6]),
    st.sampled_from(["size", "price", "subtotal"]),
)
def test_a_misplaced_point_is_seen_and_a_spread_is_not(
    buy: bool, size: int, cents: int, fee: int, spread: int, factor: int, field: str
) -> None:
    """Within 15 % of the spot price and the rounding to cents a row is accepted; ten times as much in one field is
    refused, unless only cents differ.
    """
    quantity, price = Decimal(size).scaleb(-8), Decimal(cents).scaleb(-2)
    value = round(quantity * price * (1000 + spread) / 1000, 2)
    paid = round(value * fee / 1000, 2)

    def codes(quantity: Decimal, price: Decimal, value: Decimal) -> list[str]:
        total = value + paid if buy else value - paid
        numbers = {"size": quantity, "price": price, "subtotal": value, "total": total, "fee": paid}
        text = row(kind="Buy" if buy else "Sell", **{name: f"{number:f}" for name, number in numbers.items()})
        return [bad.code for bad in read_text(HEADING + text).bad]

    assert codes(quantity, price, value) == []
    if value >= 1 and cents >= 10:
        times = {name: factor if name == field else 1 for name in ("size", "price", "subtotal")}
        assert codes(quantity * times["size"], price * times["price"], value * times["subtotal"]) == ["CONTRADICTION"]


_ODD = ["", "0", "-0.00", "1", "-2.5", "1,000.5", "0,5", "€3", "$4", "1e-18", "NaN", "9" * 40, "ETH", " "]
_NUMBERS = st.sampled_from(_ODD)


@given(
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["Buy", "Sell", "Advanced Trade Buy", "Advanced Trade Sell", "Convert", "Send"]),
            "asset": st.sampled_from(["ETH", "BTC", "USD", "", "cbETH", "A B"]),
            "currency": st.sampled_from(["USD", "EUR", "BTC", ""]),
            "notes": st.sampled_from(
                [
                    "",
                    "Bought 1 ETH for 2 BTC on ETH-BTC at 2 BTC/ETH",
                    "Sold 2.5 ETH for 3 EUR",
                    "Converted 1 ETH to 5 BTC",
                    "Converted 2.5 ETH to 3 EUR",
                    "Converted 1 BTC to 4 USD",
                ]
            ),
            "size": _NUMBERS,
            "price": _NUMBERS,
            "subtotal": _NUMBERS,
            "total": _NUMBERS,
            "fee": _NUMBERS,
        }
    )
)
def test_no_row_is_lost(fields: dict[str, str]) -> None:
    """Any row is one fill, two fills, one bad line with a sentence, or not a trade."""
    quoted = {name: f'"{value}"' for name, value in fields.items()}
    reading = read_text(HEADING + row(**quoted))
    became = (len(reading), len(reading.bad), reading.left_out.total())
    assert became in {(1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 0, 1)}
    assert all(bad.sentence and len(bad.sentence) < 160 for bad in reading.bad)


@pytest.mark.parametrize("sizes", [("-10", "-0.5"), ("10", "0.5")])
def test_two_rows_of_one_conversion_must_be_its_two_sides(sizes: tuple[str, str]) -> None:
    """Two given sides, or two received ones, are not a conversion, and neither is booked."""
    first = row(kind="Convert", size=sizes[0])
    second = row(kind="Convert", asset="BTC", size=sizes[1], price="60000")
    reading = read_text(HEADING + first + second)
    assert [bad.number for bad in reading.bad] == [2, 3]
    assert not reading.fills


def test_conversions() -> None:
    """By Notes or by two rows, of coins or of money: the given asset is sold, the received one is bought, once."""
    given = row(kind="Convert", size="-10", notes="Converted 10 ETH to 0.5 BTC")
    received = row(kind="Convert", asset="BTC", size="0.5", price="60000", notes="Converted 10 ETH to 0.5 BTC")
    both = ["BTC-USD buy 0.5 30180", "ETH-USD sell 10 30180"]
    once = read_text(HEADING + given)
    assert sorted(fills(once)) == both
    twice = read_text(HEADING + given + received + given)
    assert (sorted(fills(twice)), twice.repeated) == (both, 2)
    bare = given.replace("Converted 10 ETH to 0.5 BTC", ""), received.replace("Converted 10 ETH to 0.5 BTC", "")
    assert sorted(fills(read_text(HEADING + "".join(bare)))) == both
    assert sorted(fills(read_text(HEADING + "".join(reversed(bare))))) == both
    bought = row(kind="Convert", asset="USDC", size="1000", price="1", subtotal="1000", total="1000", fee="0",
                 notes="Converted 1000 USD to 1000 USDC")  # fmt: skip
    assert fills(read_text(HEADING + bought)) == ["USDC-USD buy 1000 1000"]
    sold = row(kind="Convert", size="10", total="29820", notes="Converted 10 ETH to 29820 USD")
    assert fills(read_text(HEADING + sold)) == ["ETH-USD sell 10 29820"]
    euros = row(
        kind="Convert", size="10", subtotal="30000", total="30000", fee="0", notes="Converted 10 ETH to 27000 EUR"
    )
    assert fills(read_text(HEADING + euros)) == ["ETH-EUR sell 10 27000"]


@given(st.permutations(["given", "received"] * 2), st.booleans())
def test_a_conversion_with_a_row_for_each_side_is_one(order: list[str], ids: bool) -> None:
    """Without IDs, or with one each, in any order: one moment and the same Notes are one; two that are alike stay
    two."""
    sides = {
        "given": {"size": "-10"},
        "received": {"asset": "BTC", "size": "0.5", "price": "60000"},
    }
    rows = [
        row(fill_id=f"c{number}" if ids else "", kind="Convert", notes="Converted 10 ETH to 0.5 BTC", **sides[name])
        for number, name in enumerate(order)
    ]
    reading = read_text(HEADING + "".join(rows))
    assert reading.bad == []
    assert sorted(fills(reading)) == ["BTC-USD buy 0.5 30180"] * 2 + ["ETH-USD sell 10 30180"] * 2
    assert reading.repeated == 2
    later = read_text(HEADING + rows[0] + rows[0].replace("10:00:00", "10:00:01").replace("c0", "c9"))
    assert len(later) == 4


def wrap(
    *, fill_id: str = "w1", asset: str = "ETH", size: str = "-0.5", worth: str = "1500", kind: str = "Wrap Asset"
) -> str:
    """A side of a wrap of ETH to CBETH."""
    return row(
        fill_id=fill_id, kind=kind, asset=asset, size=size, price="", subtotal=worth, total=worth, fee="0"
    )  # fmt: skip


INTO = wrap(fill_id="w2", asset="cbETH", size="0.47", worth="1490")


@pytest.mark.parametrize(
    "rows",
    [
        wrap() + INTO,
        INTO + wrap(),
        wrap() + INTO.replace("w2", "w1"),
        (wrap() + INTO).replace("Wrap Asset", "Unwrap"),
        wrap() + row(fill_id="z", kind="Send") + INTO + wrap() + INTO,
    ],
    ids=["own IDs", "received first", "one ID", "unwrap", "again"],
)
def test_a_wrap_is_a_conversion(rows: str) -> None:
    """Its two rows are paired by kind and second, in any order and once: given is worth received plus fee."""
    reading = read_text(HEADING + rows)
    assert (sorted(fills(reading)), reading.bad) == (["CBETH-USD buy 0.47 1490", "ETH-USD sell 0.5 1490"], [])
    assert {entry.id for group in reading.fills.values() for entry in group} == {"w1/ETH", "w1/CBETH"}
    assert reading.doubts == {}


def test_a_wrap_of_which_one_side_has_no_price_is_worth_the_other() -> None:
    """An asset without a price yet was not received for nothing."""
    reading = read_text(HEADING + wrap() + INTO.replace("1490", "0.00").replace("USD,,", "USD,0.00,"))
    assert sorted(fills(reading)) == ["CBETH-USD buy 0.47 1500", "ETH-USD sell 0.5 1500"]


def test_a_wrap_whose_other_side_is_not_there_is_left_out_and_told() -> None:
    """The asset's other side is unknown: nothing is booked, and a warning names the line."""
    reading = read_text(HEADING + wrap())
    assert (fills(reading), reading.bad, reading.left_out) == ([], [], {"Wrap Asset": 1})
    ((sentence, where),) = reading.doubts.items()
    assert "other side" in sentence
    assert where == (2, 1)


def test_wraps_that_can_not_be_told_apart_are_refused() -> None:
    """Two in one second that could each be the other's, and two sides whose values differ by far, are refused."""
    both = wrap() + wrap(fill_id="w3", size="-0.6", worth="1600")
    reading = read_text(HEADING + both + INTO)
    assert [(bad.number, bad.code) for bad in reading.bad] == [(4, "CONTRADICTION")]
    assert not reading.fills
    assert [bad.code for bad in read_text(HEADING + wrap() + INTO.replace("1490", "149")).bad] == ["CONTRADICTION"]


@pytest.mark.parametrize(
    ("text", "fill"),
    [
        (row(kind="Card Spend", size="-10", total="30180"), "ETH-USD sell 10 29820"),
        (row(kind="CardSpend", size="-10", total="29820"), "ETH-USD sell 10 29820"),
        (row(kind="Card Spend", fill_id="", size="10", total="30000", fee="0"), "ETH-USD sell 10 30000"),
        (row(kind="Card Spend", asset="USDC", size="-5", price="1", subtotal="5", total="5", fee="0", notes="Spent"),
         "USDC-USD sell 5 5"),
    ],
)  # fmt: skip
def test_coins_spent_with_the_card_are_sold(text: str, fill: str) -> None:
    """They are sold for their worth less the fee, whether the total includes the fee or not, without a warning."""
    reading = read_text(HEADING + text)
    assert (fills(reading), reading.bad, reading.left_out, reading.doubts) == ([fill], [], {}, {})


@pytest.mark.parametrize(
    "text",
    [
        row(kind="Card Spend", asset="USD", size="-5", price="1", subtotal="5", total="5", fee="0"),
        row(kind="Card Spend", asset="EUR", size="-5", price="1", subtotal="5", total="5", fee="0"),
        row(kind="Card Spend", size="10"),
        row(kind="Card Buy Back"),
        row(kind="CardBuyBack"),
    ],
    ids=["dollars", "euros", "came back", "card buy back", "one word"],
)
def test_money_that_was_spent_and_what_came_back_open_no_lots(text: str) -> None:
    """They are named as left out: money has no lots, and the cost of a refund is unknown."""
    reading = read_text(HEADING + text)
    assert (fills(reading), reading.bad, reading.left_out.total()) == ([], [], 1)


OWN = "id,time,symbol,side,size,price\n"


@pytest.mark.parametrize(
    ("heading", "first", "second"),
    [
        (EUROS_2019, "2019-01-01T00:00:00Z,Buy,BTC,1,3000,3000,3030,30,\n",
         "2020-01-01T00:00:00Z,Sell,BTC,1,7,7,7,0,\n"),
        (FILLS, "d,1,BTC-USD,BUY,2024-03-04T09:00:00Z,1,BTC,5,0,-5,USD\n",
         "d,2,BTC-USD,SELL,2024-03-05T09:00:00Z,1,BTC,5,0,5,USD\n"),
        (OWN, "a,2024-03-04T09:00:00Z,BTC-USD,buy,1,5\n", "b,2024-03-05T09:00:00Z,BTC-USD,sell,1,5\n"),
    ],
    ids=["transactions", "fills", "own"],
)  # fmt: skip
def test_files_that_were_put_together(heading: str, first: str, second: str) -> None:
    """The same heading again is skipped; below one with other columns nothing is read until the first is repeated."""
    reading = read_text(heading + first + "\ufeff" + heading + second)
    assert (len(reading), reading.bad, reading.left_out) == (2, [], {})
    swapped = (
        heading.replace("EUR ", "USD ")
        .replace("trade id,product", "product,trade id")
        .replace("size,price", "price,size")
    )
    reading = read_text(heading + first + swapped + second + second + heading + second)
    assert [(bad.number, bad.code) for bad in reading.bad] == [(number, "OTHER_HEADING") for number in (3, 4, 5)]
    assert "line 3" in reading.bad[1].sentence
    assert len(reading) == 2


def test_what_is_odd_is_said_and_taken_as_it_stands() -> None:
    """A pair that is not named, a total that is not the sum: each is reported with its first line and count."""
    reading = read_text(
        HEADING
        + row(fill_id="1", kind="Advanced Trade Buy")
        + row(fill_id="2", kind="Advanced Trade Buy")
        + row(fill_id="3", total="31000")
    )
    assert [(where, sentence.split()[0]) for sentence, where in reading.doubts.items()] == [
        ((2, 2), "Notes"),
        ((4, 1), "Total"),
    ]
    assert [text.split()[-1] for text in fills(reading)] == ["30180", "30180", "30180"]


@pytest.mark.parametrize("kind", ["Buy", "Sell", "Advanced Trade Sell", "Card Spend", "Convert"])
def test_coins_are_neither_bought_nor_sold_for_nothing(kind: str) -> None:
    """A subtotal of zero with a quantity and price that are worth something is refused."""
    sign = "" if kind == "Buy" else "-"
    notes = "Converted 10 ETH to 1 BTC" if kind == "Convert" else ""
    amounts = {"subtotal": "0.00", "total": "0.00", "fee": "0.00", "notes": notes}
    reading = read_text(HEADING + row(fill_id="1") + row(fill_id="2", kind=kind, size=f"{sign}10", **amounts))
    assert [(bad.number, bad.code) for bad in reading.bad] == [(3, "CONTRADICTION")]
    assert "Subtotal is zero and Quantity times Price is 30000" in reading.bad[0].sentence
    assert fills(reading) == ["ETH-USD buy 10 30180"]
    beside = row(kind="Buy", size="0.000016", price="3000", subtotal="0.00", total="0.00", fee="0.00")
    assert fills(read_text(HEADING + beside)) == ["ETH-USD buy 0.000016 0.048"], "within five cents it is rounding"


def test_a_subtotal_that_was_rounded_to_zero_is_quantity_times_price() -> None:
    """Dust doesn't refuse a file, and has its cost; if the price is rounded away, too, Notes have it."""
    dust = row(size="0.00000001", price="40000", subtotal="0.00", total="0.00", fee="0.00")
    assert fills(read_text(HEADING + dust)) == ["ETH-USD buy 0.00000001 0.0004"]
    notes = row(size="10", price="0.00", subtotal="0.00", total="0.00", fee="0.00", notes="Bought 10 ETH for 0.001 USD")
    assert fills(read_text(HEADING + notes)) == ["ETH-USD buy 10 0.001"]


@pytest.mark.parametrize(
    ("fields", "fill"),
    [
        ({"size": "3"}, "ETH-USD buy 3 0"),
        ({"size": "-3", "kind": "Sell"}, "ETH-USD sell 3 0"),
        ({"total": "0.99", "fee": "0.99"}, "ETH-USD buy 10 0.99"),
        ({"currency": "JPY", "price": "0", "subtotal": "0"}, "ETH-JPY buy 10 0"),
        ({"notes": "Bought 10 ETH for 0.004 EUR on ETH-EUR"}, "ETH-EUR buy 10 0.004"),
    ],
)
def test_dust_whose_price_is_rounded_away_too_is_worth_nothing_to_the_cent(fields: dict[str, str], fill: str) -> None:
    """It doesn't refuse the file: zero is right to the smallest unit, and a warning names the line; a printed fee and
    an amount in another currency in Notes count.
    """
    reading = read_text(HEADING + row(**{"price": "0.00", "subtotal": "0.00", "total": "0.00", "fee": "0.00"} | fields))
    assert (fills(reading), reading.bad) == ([fill], [])
    ((sentence, where),) = reading.doubts.items()
    assert "rounded to zero" in sentence
    assert where == (2, 1)


def test_a_fee_that_is_not_printed_is_what_the_total_is_more() -> None:
    """Or less, for a sell: an empty field doesn't mean zero."""
    bought = read_text(HEADING + row(fee=""))
    sold = read_text(HEADING + row(kind="Sell", total="29820", fee=""))
    assert (fills(bought), fills(sold)) == (["ETH-USD buy 10 30180"], ["ETH-USD sell 10 29820"])
    assert bought.doubts == sold.doubts == {}


def test_a_pair_of_one_order_book_moves_what_was_paid() -> None:
    """Dollars and USDC are traded in one book: the amount's currency is what was paid."""
    dollars = read_text(HEADING + row(notes="Bought 10 ETH for 30180 USD on ETH-USDC"))
    assert fills(dollars) == ["ETH-USD buy 10 30180"]
    coins = read_text(HEADING + row(notes="Bought 10 ETH for 30180 USDC on ETH-USD"))
    assert fills(coins) == ["ETH-USD buy 10 30180", "USDC-USD sell 30180 30180"]


def test_an_id_by_content_is_the_one_of_before() -> None:
    """The ids of a file that an earlier version imported are unchanged: its fee as printed, its symbol as valued."""
    head = HEADING.removeprefix("ID,")
    text = row(fee="-180", notes="Bought 10 ETH for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH").removeprefix("x,")
    ids = sorted(entry.id for group in read_text(head + text).fills.values() for entry in group)
    base = "2024-02-05T10:00:00+00:00 buy 10 ETH-USD for 30000, fee -180"
    assert ids == [base, f"{base}/BTC"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADING.replace(",", ";"), "semicolons"),
        ("\ufeff" + HEADING.replace(",", ";"), "semicolons"),
        ("id;time;symbol;side;size;price\n", "semicolons"),
        (FILLS.replace(",", "\t"), "tabs"),
        ("portfolio,type,time,amount,balance,amount/balance unit,transfer id,trade id,order id\n", "account statement"),
        (HEADING.replace("Notes", "Subtotal"), "names subtotal more than once"),
        (
            "Timestamp,Transaction Type,Asset,Quantity Transacted,EUR Subtotal,USD Fees\n",
            "has amounts in EUR and USD",
        ),
    ],
)
def test_a_file_that_can_not_be_read_says_what_it_is(text: str, words: str) -> None:
    """Semicolons, tabs, another report or an ambiguous heading: one sentence with what to do."""
    with pytest.raises(FifoError, match=words) as refused:
        read_text(text)
    assert refused.value.code == "UNKNOWN_FORMAT"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_said_by_name(encoding: str) -> None:
    """With its byte order mark or without."""
    with pytest.raises(FifoError, match="UTF-16"):
        read_fills((HEADING + row()).encode(encoding).splitlines(keepends=True))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("d,1,BTC-USD,BUY,2024-03-04T09:00:00Z,1,BTC,5,0,-5,EUR", "NOT_A_ROW"),
        ("d,1,BTC-USD,BUY,2024-03-04T09:00:00Z,-1,BTC,5,0,-5,USD", "SIZE_NOT_POSITIVE"),
        ('d,1,BTC-USD,BUY,2024-03-04T09:00:00Z,"0,500",BTC,5,0,-5,USD', "NOT_A_NUMBER"),
    ],
)
def test_a_bad_row_of_the_fills_report(line: str, code: str) -> None:
    """A unit that is not the product's, a negative size, a decimal comma."""
    assert [bad.code for bad in read_text(f"{FILLS}{line}\n").bad] == [code]


def test_a_product_in_small_letters_is_the_same() -> None:
    """An id, product and unit in a spreadsheet's spelling: one fill."""
    line = "d,1,BTC-USD,BUY,2024-03-04T09:00:00Z,1,BTC,5,0,-5,USD\n"
    reading = read_text(FILLS + line + line.lower().replace("t09", "T09").replace("z,", "Z,"))
    assert (len(reading), reading.repeated, reading.bad) == (1, 1, [])


def test_notes() -> None:
    """The content of Notes in each of their forms, and nothing without it."""
    assert traded(said("Bought 10 ETH for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH")) == Traded(
        "ETH", "BTC", 10 * UNIT, 503 * UNIT // 1000, 5 * UNIT // 100
    )
    assert traded(said("Sold 0.01 BTC for 650.00 USDC on BTC-USDC"))[1:4] == ("USDC", UNIT // 100, 650 * UNIT)
    dollars = traded(said("Bought 1,000 USDC for $1,377.00 CAD using CAD Wallet"))
    assert dollars[1:4] == ("CAD", 1000 * UNIT, 1377 * UNIT)
    assert traded(said("Bought 0,01 BTC for 100,00 € EUR")) == Traded("BTC", "EUR", None, None, None)
    assert traded(said("Bought 0.03 cbETH for € 300.00 EUR."))[:2] == ("CBETH", "EUR")
    for nothing in ("Bought 0.1 BTC for $10 using Visa", "Bought some", ""):
        assert traded(said(nothing)) == Traded(None, None, None, None, None)
    for text, quotes in {
        "Bought 10 ETH for 3000 USDC on ETH-USD": ("USDC", "USD"),
        "Sold 1 BTC for €9 EUR": ("EUR", None),
        "Filled on ETH-BTC": ("BTC", "BTC"),
    }.items():
        assert (said(text).quote, said(text).against) == quotes
    assert [may_be(text, 100 * UNIT, 101 * UNIT) for text in ("99.99", "99.98", "100,5", "100,500.", "0,5", "?")] == [
        True, False, True, True, False, True
    ]  # fmt: skip
    assert unclear("Bought 10 ETH for € 1,200 BTC on", "BTC")
    assert not any(unclear(f"for {number} BTC", "BTC") for number in ("1,200.5", "1200", "0,500", "1,200,000", "1,2"))
    assert converted("Converted 0.05 BTC to 1,200.5 USDC") == Converted(
        5 * UNIT // 100, "BTC", 12005 * UNIT // 10, "USDC"
    )
    assert converted("Converted BTC to MATIC") is None
