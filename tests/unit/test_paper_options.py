"""How `up` uses its options for the paper exchange, and the settings behind them."""

from pathlib import Path
from typing import Any

import pytest

from cli.output import UserError
from cli.prices import PaperOptions, paper_market
from workers.settings import load_settings
from workers.settings.paper import PaperSettings


def arguments(options: PaperOptions, settings: PaperSettings) -> dict[str, str]:
    """The arguments with which the paper exchange is started, option by option."""
    given = paper_market(options, settings, speed=1, paper=True).arguments
    return dict(zip(given[::2], given[1::2], strict=True))


def test_an_option_goes_before_its_setting_and_that_before_the_default() -> None:
    """Fees, spread, balance and products are from the first source that has them."""
    given = arguments(PaperOptions(), PaperSettings())
    assert (given["--maker-fee"], given["--taker-fee"], given["--spread-bps"]) == ("0.004", "0.006", "2")
    assert given["--balance"] == "USD=100000"
    assert not {"--product", "--products-file", "--fills"} & set(given)
    environ = {
        "BOTTRADER_PAPER__MAKER_FEE_PCT": "0",
        "BOTTRADER_PAPER__TAKER_FEE_PCT": "0.25",
        "BOTTRADER_PAPER__SPREAD_BPS": "7.5",
        "BOTTRADER_PAPER__BALANCES": "usd=5000",
        "BOTTRADER_PAPER__PRODUCTS": "ETH-USD",
        "BOTTRADER_PAPER__FILLS": "pessimistic",
    }
    settings = load_settings(environ=environ).paper
    given = arguments(PaperOptions(), settings)
    assert (given["--maker-fee"], given["--taker-fee"], given["--spread-bps"]) == ("0", "0.0025", "7.5")
    assert (given["--balance"], given["--product"], given["--fills"]) == ("USD=5000", "ETH-USD", "pessimistic")
    options = PaperOptions(taker_fee="0.001", balances=["USD=1"], products=["BTC-USD"], fills="base")
    given = arguments(options, settings)
    assert (given["--maker-fee"], given["--taker-fee"], given["--spread-bps"]) == ("0", "0.001", "7.5")
    assert (given["--balance"], given["--product"], given["--fills"]) == ("USD=1", "BTC-USD", "base")


def test_the_first_line_says_prices_fills_and_fees() -> None:
    """The line on prices, fills and fees is printed before anything starts."""
    said = paper_market(PaperOptions(maker_fee="0"), PaperSettings(), speed=1, paper=True).about
    assert said.startswith("Paper money on generated prices. Fills, optimistic: ")
    assert said.endswith("Fees: 0 % as maker, 0.6 % as taker.")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"maker_fee": "40"}, "The maker fee is a fraction of at least 0 and below 1, not 40"),
        ({"taker_fee": "cheap"}, "--taker-fee must be a decimal number, not cheap"),
        ({"spread_bps": "0"}, "The spread is above 0 and at most 2000 bp, not 0"),
        ({"balances": ["100000"]}, "--balance 100000 must look like USD=100000"),
        ({"balances": ["US$=1"]}, "must look like USD=100000"),
        ({"balances": ["USD=-1"]}, "A starting balance must not be negative"),
        ({"products": ["NONE-USD"]}, "Unknown product NONE-USD"),
        ({"products_file": Path("none.json")}, "Cannot read the products file none.json"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(given: dict[str, Any], words: str) -> None:
    """An invalid value is refused before anything starts."""
    with pytest.raises(UserError, match=words.replace("$", r"\$")):
        paper_market(PaperOptions(**given), PaperSettings(), speed=1, paper=True)


def test_without_a_paper_exchange_its_options_are_refused_and_its_settings_rest() -> None:
    """An option without effect is named; a setting without effect is ignored."""
    with pytest.raises(UserError, match="--maker-fee and --product are for the paper exchange"):
        paper_market(PaperOptions(maker_fee="0", products=["BTC-USD"]), PaperSettings(), speed=1, paper=False)
    assert paper_market(PaperOptions(), PaperSettings(products=("NONE-USD",)), speed=1, paper=False).arguments == ()
