"""ROC momentum: buys when a price has risen fast enough, sells when it has fallen as fast (ENTRY).

The score is the rate of change itself, in percent, so that it can be compared with the trade's result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from domain.scoring import Action, Decision, Part
from domain.strategies import Features, Look

__all__ = ["ROC_MOMENTUM", "ROC_MOMENTUM_DOWN", "RocMomentum", "RocRules"]

ROC_MOMENTUM: Final = "roc_momo"
ROC_MOMENTUM_DOWN: Final = "roc_momo_down"


@dataclass(frozen=True, slots=True, kw_only=True)
class RocRules:
    """Thresholds in percent of rate of change; both positive. `sell_from` None never sells."""

    buy_from: float = 1.5
    sell_from: float | None = 1.5
    volume_from: float = 0.0
    """The newest candle's volume must be at least this multiple of the average; 0: any."""


class RocMomentum:
    """Buys at a rate of change of `buy_from` percent or more, says sell at minus `sell_from` or less."""

    def __init__(self, rules: RocRules | None = None) -> None:
        self.rules = rules or RocRules()

    def decide(self, features: Features) -> Decision:
        """The decision for one symbol's rate of change."""
        look, row = features.look, features.row
        return self._row(look, row, float(look.scan.values["roc"][row]), float(look.scan.values["volume"][row]))

    def decide_rows(self, look: Look) -> list[Decision]:
        """The same for all symbols."""
        rates, volumes = look.scan.values["roc"].tolist(), look.scan.values["volume"].tolist()
        return [self._row(look, row, rates[row], volumes[row]) for row in range(len(rates))]

    def _row(self, look: Look, row: int, rate: float, volume: float) -> Decision:
        rules, symbol = self.rules, look.symbols[row]
        if math.isnan(rate):
            why = look.scan.why_not("roc", row)
            return Decision(symbol, Action.HOLD, None, 0.0, 0.0, {"roc": Part(None, False, 1.0, 0.0, why)}, (), why)
        if rate >= rules.buy_from:
            if rules.volume_from and not volume >= rules.volume_from:
                part = {"roc": Part(rate, False, 1.0, 0.0, "too little volume behind it")}
                return Decision(symbol, Action.HOLD, None, 0.0, 0.0, part, (), "momentum without volume")
            part = {"roc": Part(rate, True, 1.0, rate)}
            return Decision(symbol, Action.BUY, ROC_MOMENTUM, rate, 0.0, part, ("roc",))
        if rules.sell_from is not None and rate <= -rules.sell_from:
            part = {"roc": Part(rate, True, 1.0, rate)}
            return Decision(symbol, Action.SELL, ROC_MOMENTUM_DOWN, 0.0, -rate, part, ("roc",))
        return Decision(symbol, Action.HOLD, None, 0.0, 0.0, {"roc": Part(rate, False, 1.0, 0.0)}, (), "no momentum")
