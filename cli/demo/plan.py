"""The demonstration's trades: entries of every trigger and source, each with exit rules for a different exit reason.

The market runs fast, so the thresholds are small: it moves a tenth of a percent within seconds.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from domain.entries import entry
from domain.exits import ExitReason, ExitRules
from domain.messages import IndicatorPart, Linkage, OrderIntent
from domain.money import ZERO
from domain.orders import EntryPoint, OrderType, TimeInForce

__all__ = ["ACCOUNT", "KINDS", "SYMBOLS", "Run", "StepKind", "intent_of", "run_of"]

ACCOUNT = "main"
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")

_NAMESPACE = uuid.UUID("b0c3d9d4-7f25-5d10-8a6b-3c1f0d2a9e11")
_INDICATORS: Mapping[str, tuple[str, str]] = {
    # weight, and the value around which it is drawn
    "rsi": ("1.5", "27"),
    "macd": ("1.0", "0.8"),
    "bb_squeeze": ("1.2", "0.4"),
    "volume": ("0.8", "2.3"),
    "roc": ("1.0", "1.1"),
}
_FIRED_BY: Mapping[str, Sequence[str]] = {
    "rsi_oversold": ("rsi",),
    "macd_cross": ("macd",),
    "bb_squeeze": ("bb_squeeze",),
    "volume_spike": ("volume",),
    "roc_momo": ("roc",),
    "multi_signal": ("rsi", "macd", "volume"),
}


@dataclass(frozen=True, slots=True)
class StepKind:
    """One kind of entry with one kind of exit. `reason` None: stays open until the end, protected."""

    name: str
    reason: ExitReason | None
    triggers: tuple[str, ...]
    source: str
    rules: ExitRules


def _rules(**given: object) -> ExitRules:
    """Wide stops and no other rules unless given, so that only one rule can end the trade."""
    wide: dict[str, object] = {
        "hard_stop": "0.25",
        "soft_stop": "0.2",
        "trailing_arm": None,
        "signal_exit": False,
        "max_reprices": 3,
    }
    return ExitRules.model_validate({**wide, **given})


KINDS: tuple[StepKind, ...] = (
    StepKind(
        "hard stop",
        ExitReason.HARD_STOP,
        ("volume_spike", "multi_signal"),
        "sighook",
        # The soft stop lies less than a tick before it, so that the hard one is always the first to be reached.
        _rules(hard_stop="0.0012", soft_stop="0.0011999999"),
    ),
    StepKind("soft stop", ExitReason.SOFT_STOP, ("macd_cross", "bb_squeeze"), "sighook", _rules(soft_stop="0.001")),
    StepKind(
        "trailing stop",
        ExitReason.TRAILING_STOP,
        ("roc_momo", "multi_signal"),
        "sighook",
        _rules(trailing_arm="0.0008", trailing_min_distance="0.0004", trailing_max_distance="0.0008"),
    ),
    StepKind("take profit", ExitReason.TP, ("rsi_oversold", "passive_mm"), "sighook", _rules(take_profit="0.001")),
    StepKind(
        "sell signal", ExitReason.SIGNAL_EXIT, ("rsi_oversold", "tradingview"), "webhook", _rules(signal_exit=True)
    ),
    StepKind("a person's close", ExitReason.MANUAL, ("manual",), "manual", _rules()),
    StepKind("kept open", None, ("bb_squeeze",), "sighook", _rules()),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the strategy: its snapshot and its decision for each symbol."""

    number: int
    snapshot_id: str
    breakdowns: Mapping[str, Mapping[str, IndicatorPart]]

    def buy_score(self, symbol: str) -> Decimal:
        """The sum of what the indicators contribute."""
        return sum((part.contribution for part in self.breakdowns[symbol].values()), ZERO)

    def fired(self, symbol: str) -> tuple[str, ...]:
        """The indicators that fired, by name."""
        return tuple(sorted(name for name, part in self.breakdowns[symbol].items() if part.fired))


def run_of(number: int, demo_id: str) -> Run:
    """The strategy's run `number`: always the same for the same number."""
    dice = random.Random(f"{demo_id}/{number}")  # noqa: S311 - a made-up market needs no cryptography
    return Run(
        number=number,
        snapshot_id=str(uuid.uuid5(_NAMESPACE, f"{demo_id}/{number}")),
        breakdowns={symbol: _breakdown(dice) for symbol in SYMBOLS},
    )


def _breakdown(dice: random.Random) -> dict[str, IndicatorPart]:
    parts: dict[str, IndicatorPart] = {}
    for name, (weight, around) in _INDICATORS.items():
        fired = dice.random() < 0.4
        value = Decimal(around) * Decimal(dice.randint(80, 120)) / 100
        worth = Decimal(weight) * Decimal(dice.randint(50, 100)) / 100 if fired else ZERO
        parts[name] = IndicatorPart(value=value, fired=fired, weight=Decimal(weight), contribution=worth)
    return parts


def intent_of(
    kind: StepKind, symbol: str, number: int, run: Run, *, demo_id: str, speed: Decimal, bid: Decimal, ask: Decimal
) -> OrderIntent:
    """The entry `number` of the demonstration: at market, at a limit that takes the ask, or as a maker at the bid."""
    trigger = kind.triggers[number % len(kind.triggers)]
    style = ("market", "limit", "maker")[number % 3]
    breakdown = dict(run.breakdowns[symbol])
    for name in _FIRED_BY.get(trigger, ()):
        part = breakdown[name]
        breakdown[name] = part.model_copy(update={"fired": True, "contribution": part.weight})
    request_id = f"{demo_id}-{number}"
    by_person = kind.source == "manual"
    return entry(
        entry_point=EntryPoint.DEMO,
        account=ACCOUNT,
        request_id=request_id,
        symbol=symbol,
        order_type=OrderType.MARKET if style == "market" else OrderType.LIMIT,
        quote_size=Decimal(200 + 37 * (number % 11)),
        limit_price=ask if style == "limit" else bid,
        time_in_force=TimeInForce.IOC if style == "market" else TimeInForce.GTC,
        post_only=style == "maker",
        expires_after=None if style == "market" else speed * 8,
        source=kind.source,
        linkage=Linkage(
            trigger=trigger,
            snapshot_id=run.snapshot_id,
            buy_score=sum((part.contribution for part in breakdown.values()), ZERO),
            sell_score=ZERO,
            indicator_breakdown={} if by_person else breakdown,
            indicators_fired=() if by_person else tuple(sorted(n for n, part in breakdown.items() if part.fired)),
        ),
        # Re-priced each wall second, whatever the market's speed.
        rules=kind.rules.model_copy(update={"reprice_seconds": speed}),
        asked_by="the demonstration",
    )
