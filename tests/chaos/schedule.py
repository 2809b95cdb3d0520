"""The actions of a chaos run, decided before it starts: the same seed gives the same actions at the same beats.

A beat is one step of the run, a good half second long: the market moves, an entry is decided, and faults begin. How
long their effects take depends on the machine, so timings differ between runs; the actions and their order don't.
Prices are in USD, sizes in base, durations in wall seconds. Pure: no clock, no I/O.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from domain.exits import ExitRules
from domain.protection import Protection, ProtectionKind

__all__ = [
    "PRINTS_UP",
    "SHIELDS",
    "SYMBOLS",
    "TICK",
    "Beat",
    "Cancel",
    "ChaosAction",
    "ChaosTerms",
    "Close",
    "Cut",
    "Enter",
    "Fault",
    "Flap",
    "Latency",
    "Manual",
    "Names",
    "Outage",
    "Price",
    "Print",
    "Sell",
    "Signal",
    "Skew",
    "Sockets",
    "Terminate",
    "describe",
    "plan_run",
]

SYMBOLS = ("CHA-USD", "CHB-USD", "CHC-USD", "CHD-USD", "CHE-USD", "CHF-USDC")
"""The traded products; the market of a -USDC product is reported under its -USD twin's name."""
TICK = Decimal("0.01")
PRINTS_UP = 2
"""Ticks above the bid at which somebody buys now and then: where limit exits rest."""
_START = Decimal(100)
_LOT = Decimal("0.0001")
_TRIGGERS = ("rsi_oversold", "macd_cross", "bb_squeeze", "volume_spike", "multi_signal", "roc_momo")


@dataclass(frozen=True, slots=True)
class ChaosTerms:
    """The size of a run. `crash_points` are names at which a worker can be made to die."""

    trades: int = 50
    symbols: Sequence[str] = SYMBOLS
    crash_points: Sequence[str] = ()
    calm_beats: int = 3
    """Beats without faults at the start."""
    fault_rate: float = 0.45
    """Chance of a fault of connections or messages in a beat."""
    outage_every: int = 13
    """Beats between two deaths of a process."""
    terminate_every: int = 25
    """One in this many entries has its monitor terminated by a person."""
    power_cut: bool = False
    """Whether the machine loses its power once, somewhere in the middle."""


@dataclass(frozen=True, slots=True)
class Enter:
    """Decide to buy. `way` names the exit rules, `shield` the protection at the exchange ("": none); a limit price None
    is a market order.
    """

    number: int
    symbol: str
    style: str
    size: Decimal
    limit_price: Decimal | None
    expires: Decimal | None
    trigger: str
    way: str
    shield: str = ""


@dataclass(frozen=True, slots=True)
class Sell:
    """A person sells `size` of the trade of entry `number`."""

    number: int
    size: Decimal


@dataclass(frozen=True, slots=True)
class Signal:
    """A strategy run's row for a symbol: `action` is sell or hold."""

    symbol: str
    action: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """A person cancels the entry `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Close:
    """A person closes the trade of entry `number`."""

    number: int


@dataclass(frozen=True, slots=True)
class Price:
    """The market's touch moves; resting orders that it crosses fill, at most `volume` base (None: all of them)."""

    symbol: str
    bid: Decimal
    volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Print:
    """Somebody trades at a price, so that a resting order fills in part."""

    symbol: str
    price: Decimal
    size: Decimal
    side: str


@dataclass(frozen=True, slots=True)
class Manual:
    """An order from the exchange's own app."""

    symbol: str
    side: str
    size: Decimal


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the exchange (`exchange.paper.faults`)."""

    kind: str
    scope: str
    count: int | None = 1
    probability: float = 1.0
    delay: float = 0.0
    status: int = 0
    duration: float | None = None
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Sockets:
    """A fault of stream connections now: drop, close, half_open."""

    action: str
    path: str
    code: int = 1000


@dataclass(frozen=True, slots=True)
class Flap:
    """Stream connections that are cut again and again."""

    path: str
    times: int


@dataclass(frozen=True, slots=True)
class Names:
    """The workers' name server is down for `seconds`, and their connections to the exchange are cut."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Skew:
    """The exchange's clock is off by this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Orders and cancels take effect only after this many seconds."""

    accept: float
    cancel: float


@dataclass(frozen=True, slots=True)
class Outage:
    """A process stops for `seconds`: kill (-9), stop (SIGSTOP), crash (a worker, at the named point)."""

    target: str
    how: str
    seconds: float
    point: str = ""


@dataclass(frozen=True, slots=True)
class Terminate:
    """A person terminates the exit monitor of the youngest open trade in Temporal."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The machine loses its power, with all our processes, and gets it back after `seconds`."""

    seconds: float


ChaosAction = (
    Enter | Sell | Signal | Cancel | Close | Price | Print | Manual
    | Fault | Sockets | Flap | Names | Skew | Latency | Outage | Cut | Terminate
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Beat:
    """One step: its actions are begun in this order."""

    number: int
    actions: tuple[ChaosAction, ...]


WAYS: dict[str, ExitRules] = {
    "hard": ExitRules.model_validate({"hard_stop": "0.004", "soft_stop": "0.0039999999", "trailing_arm": None}),
    "soft": ExitRules.model_validate({"hard_stop": "0.02", "soft_stop": "0.003", "trailing_arm": None}),
    "trailing": ExitRules.model_validate(
        {
            "hard_stop": "0.02",
            "soft_stop": "0.01",
            "trailing_arm": "0.003",
            "trailing_min_distance": "0.0015",
            "trailing_max_distance": "0.003",
        }
    ),
    "profit": ExitRules.model_validate(
        {"hard_stop": "0.02", "soft_stop": "0.01", "trailing_arm": None, "take_profit": "0.003"}
    ),
    "signal": ExitRules.model_validate({"hard_stop": "0.02", "soft_stop": "0.01", "trailing_arm": None}),
    "kept": ExitRules.model_validate({"hard_stop": "0.5", "soft_stop": "0.4", "trailing_arm": None}),
}
"""Exit rules by name. The market moves by 0.3 % per beat, so that all but the kept ones are due within seconds."""
WAYS = {
    name: rules.model_copy(
        update={
            "reprice_seconds": Decimal(1),
            "max_reprices": 2,
            "signal_exit": name == "signal",
            "retry_max_seconds": Decimal(5),
        }
    )
    for name, rules in WAYS.items()
}

_TIGHT, _WIDE = Decimal("0.004"), Decimal("0.3")
SHIELDS: dict[str, Protection | None] = {
    "": None,
    "stop": Protection(kind=ProtectionKind.STOP_LIMIT, stop=_TIGHT, limit_offset=_WIDE),
    "bracket": Protection(kind=ProtectionKind.BRACKET, stop=_TIGHT, take_profit=Decimal("0.003")),
    "far": Protection(kind=ProtectionKind.STOP_LIMIT, stop=_WIDE),
}
"""Protection at the exchange by name. The tight ones are reached at about the same time as a watcher's own stops, so
that both sell, or try to; the far one must be cancelled before an exit, and stays with a trade that is kept.
"""

_SUBMIT, _CANCEL, _ANY = "POST /orders", "POST /orders/batch_cancel", "*"
_FAULTS: tuple[ChaosAction, ...] = (
    Fault("accepted_cut", _SUBMIT),
    Fault("accepted_cut", _SUBMIT, count=3),
    Fault("accepted_silent", _SUBMIT, delay=4),
    Fault("not_accepted_cut", _SUBMIT),
    Fault("not_accepted_cut", _SUBMIT, count=3),
    Fault("accepted_late", _SUBMIT, delay=5),
    Fault("accepted_server_error", _SUBMIT, status=502),
    Fault("server_error", _SUBMIT, count=2, status=500),
    Fault("malformed_answer", _SUBMIT),
    Fault("slow", _SUBMIT, count=3, delay=1.5),
    Fault("rate_limited", _SUBMIT, count=3),
    Fault("accepted_cut", _CANCEL),
    Fault("accepted_silent", _CANCEL, delay=4),
    Fault("not_accepted_cut", _CANCEL),
    Fault("server_error", _CANCEL, count=2, status=503),
    Fault("rate_limited", _ANY, count=None, duration=1.5),
    Fault("server_error", _ANY, count=None, status=503, duration=1.5),
    Fault("slow", "GET *", count=6, delay=1.0),
    Fault("malformed_answer", "GET *", count=2),
    Fault("not_accepted_cut", "GET *", count=4),
    # All reads fail, and everything else works.
    Fault("server_error", "GET *", count=None, status=503, duration=8.0),
    Fault("slow", "GET *", count=None, delay=30.0, duration=8.0),
    Fault("slow", "GET *", count=None, delay=2.0, duration=8.0),
    Fault("server_error", "GET /product*", count=None, status=503, duration=8.0),
    Fault("slow", "GET /orders/*", count=None, delay=30.0, duration=8.0),
    Fault("lagging", "GET *", count=None, delay=10.0, duration=8.0),
    Fault("strange_rows", "GET /orders/*", count=4),
    Fault("null_list", "GET *", count=4),
    # The exchange requests a long pause.
    Fault("rate_limited", _SUBMIT, delay=45.0),
    Fault("rate_limited", "GET *", count=None, delay=45.0, duration=3.0),
    Fault("rate_limited", _ANY, count=3, delay=45.0),
    # A MARKET sell finds no buyers, or only for a part.
    Fault("thin_book", "SELL *", count=2),
    Fault("thin_book", "SELL *", count=3, share=0.4),
    Fault("thin_book", "BUY *", count=1, share=0.5),
    # Clocks of messages.
    Fault("ahead", _ANY, count=None, delay=600.0, duration=3.0),
    Fault("ahead", "ticker", count=1, delay=600.0),
    Fault("behind", _ANY, count=None, delay=600.0, duration=3.0),
    Fault("replay", "user", count=None, duration=8.0),
    Fault("no_price", "user", count=3),
    Fault("unknown_side", "user", count=2),
    Fault("null_orders", "user", count=3),
    Fault("stale_cancelled", "user", count=2),
    Fault("duplicate", "user", count=12, probability=0.5),
    Fault("late", "user", count=4, delay=1.5),
    Fault("reordered", "user", count=6),
    Fault("missing", "user", count=2),
    Fault("malformed", "user"),
    Fault("missing", _ANY, count=4),
    Fault("duplicate", _ANY, count=20, probability=0.5),
    Fault("malformed", _ANY),
    Fault("frozen", _ANY, count=None, duration=3.0),
    Fault("half_open", "user"),
    Fault("refused", "user", count=None, duration=3.0),
    Fault("refused", "market", count=None, duration=3.0),
    Sockets("drop", "user"),
    Sockets("drop", "market"),
    Sockets("drop", "*"),
    Sockets("close", "user", 1001),
    Sockets("close", "market", 1000),
    Sockets("half_open", "user"),
    Sockets("half_open", "market"),
    Flap("user", 5),
    Flap("market", 5),
    Names(2.0),
    Names(4.0),
    Latency(1.0, 1.0),
    Latency(0.2, 2.0),
)
_SKEWS = (0.0, 0.0, 3.0, -3.0, 20.0, 60.0, -20.0, -120.0)
"""How far the exchange's clock is off, for the whole run: one that was set back would date a sell before its buy."""
_OUTAGES = (
    ("worker-a", "kill"),
    ("worker-b", "kill"),
    ("workers", "kill"),
    ("worker-a", "stop"),
    ("worker-b", "stop"),
    ("temporal", "kill"),
    ("postgres", "kill"),
    ("worker-a", "crash"),
    ("worker-b", "crash"),
)


class _Maker:
    """Draws a run. Every choice is from one random generator, in one order."""

    def __init__(self, seed: int, terms: ChaosTerms) -> None:
        self._dice = random.Random(seed)
        self._terms = terms
        self._bid = dict.fromkeys(terms.symbols, _START)
        self._later: dict[int, list[ChaosAction]] = {}
        self._manual = dict.fromkeys(terms.symbols, Decimal(0))
        self._faults = list(_FAULTS)
        self._outages: list[tuple[str, str]] = []
        self._entered = 0

    def beats(self) -> list[Beat]:
        """All beats: one entry each until there are enough, then those with remaining actions."""
        found = []
        number = 0
        while self._entered < self._terms.trades or self._later:
            actions: list[ChaosAction] = []
            actions += self._market()
            actions += self._later.pop(number, [])
            if number == 0:
                actions.append(Skew(self._dice.choice(_SKEWS)))
            if self._entered < self._terms.trades:
                actions += self._trouble(number)
                actions += self._entry(number)
                if self._dice.random() < 0.15:
                    actions += self._entry(number)
                if self._dice.random() < 0.2:
                    actions += self._by_hand()
                if self._dice.random() < 0.3:
                    action = self._dice.choice(("sell", "sell", "hold"))
                    actions.append(Signal(self._dice.choice(list(self._terms.symbols)), action))
            found.append(Beat(number, tuple(actions)))
            number += 1
        return found

    def _market(self) -> list[ChaosAction]:
        """Every symbol moves a little, pulled back to its start, and somebody buys above the bid."""
        moves: list[ChaosAction] = []
        for symbol in self._terms.symbols:
            pull = (_START - self._bid[symbol]) * Decimal("0.1")
            step = Decimal(str(round(self._dice.gauss(0, 0.30), 2)))
            self._bid[symbol] = (self._bid[symbol] + pull + step).quantize(TICK, ROUND_HALF_EVEN)
            volume = self._size(0.05, 0.8) if self._dice.random() < 0.3 else None
            moves.append(Price(symbol, self._bid[symbol], volume))
            if self._dice.random() < 0.4:
                price = self._bid[symbol] + PRINTS_UP * TICK
                moves.append(Print(symbol, price, self._size(0.05, 0.6), "BUY"))
        return moves

    def _entry(self, beat: int) -> list[ChaosAction]:
        """An entry, and a person's actions on it: some are cancelled at once, some later."""
        dice = self._dice
        number, self._entered = self._entered, self._entered + 1
        symbol = dice.choice(list(self._terms.symbols))
        bid = self._bid[symbol]
        style = dice.choices(("market", "quote", "taker", "rest", "maker"), (3, 1, 2, 3, 2))[0]
        way = dice.choices(tuple(WAYS), (3, 3, 3, 3, 3, 2))[0]
        shield = dice.choices(tuple(SHIELDS), (6, 1, 1, 1))[0]
        size = self._size(0.5, 3.0)
        price: Decimal | None = None
        if style == "taker":
            price = bid + 2 * TICK
        elif style == "rest":
            price = bid - dice.randint(2, 12) * TICK
        elif style == "maker":
            price = bid
        if price is not None and style != "taker":
            self._pieces(beat, symbol, price, size)
        at_once: list[ChaosAction] = []
        if dice.random() < 0.12:
            delay = dice.randint(0, 6)
            if delay:
                self._at(beat + delay, Cancel(number))
            else:
                at_once.append(Cancel(number))
        if (way == "kept" or dice.random() < 0.1) and dice.random() < 0.7:
            self._at(beat + dice.randint(4, 12), Close(number))
        if dice.random() < (0.05 if shield else 0.25):
            self._at(beat + dice.randint(1, 4), Sell(number, max((size * Decimal("0.3")).quantize(_LOT), _LOT)))
        if number % self._terms.terminate_every == self._terms.terminate_every // 2:
            self._at(beat + dice.randint(1, 3), Terminate())
        if way == "signal":
            for _ in range(2):
                self._at(beat + dice.randint(1, 6), Signal(symbol, "sell"))
        entry = Enter(
            number=number,
            symbol=symbol,
            style=style,
            size=size,
            limit_price=price,
            expires=None if style in ("market", "quote") else Decimal(dice.randint(3, 8)),
            trigger=_TRIGGERS[number % len(_TRIGGERS)],
            way=way,
            shield=shield,
        )
        return [entry, *at_once]

    def _pieces(self, beat: int, symbol: str, price: Decimal, size: Decimal) -> None:
        """A resting entry fills in many pieces, or only in part."""
        count = self._dice.randint(0, 6)
        for _ in range(count):
            piece = max((size / (count + self._dice.randint(-1, 2) or 1)).quantize(_LOT), _LOT)
            self._at(beat + self._dice.randint(1, 5), Print(symbol, price, piece, "SELL"))

    def _by_hand(self) -> list[ChaosAction]:
        """Somebody buys in the exchange's app, or sells that again."""
        symbol = self._dice.choice(list(self._terms.symbols))
        if self._manual[symbol] > 0 and self._dice.random() < 0.5:
            size, self._manual[symbol] = self._manual[symbol], Decimal(0)
            return [Manual(symbol, "SELL", size)]
        size = self._size(0.1, 1.0)
        self._manual[symbol] += size
        return [Manual(symbol, "BUY", size)]

    def _trouble(self, beat: int) -> list[ChaosAction]:
        if beat < self._terms.calm_beats:
            return []
        found: list[ChaosAction] = []
        if self._dice.random() < self._terms.fault_rate:
            fault = self._dice.choice(self._faults)
            found.append(fault)
            if isinstance(fault, Latency):
                self._at(beat + 4, Latency(0, 0))
        if beat % self._terms.outage_every == self._terms.calm_beats:
            found.append(self._outage())
        return found

    def _outage(self) -> Outage:
        """Every kind of outage happens once before one happens twice."""
        if not self._outages:
            self._outages = [item for item in _OUTAGES if item[1] != "crash" or self._terms.crash_points]
            self._dice.shuffle(self._outages)
        target, how = self._outages.pop()
        seconds = {"kill": self._dice.uniform(0.5, 3.0), "stop": self._dice.uniform(7.0, 9.0), "crash": 0.5}[how]
        point = self._dice.choice(list(self._terms.crash_points)) if how == "crash" else ""
        return Outage(target, how, round(seconds, 1), point)

    def _at(self, beat: int, action: ChaosAction) -> None:
        self._later.setdefault(beat, []).append(action)

    def _size(self, low: float, high: float) -> Decimal:
        return Decimal(str(round(self._dice.uniform(low, high), 4))).quantize(_LOT)


def plan_run(seed: int, terms: ChaosTerms) -> tuple[Beat, ...]:
    """All beats of a seed, in order."""
    beats = _Maker(seed, terms).beats()
    if terms.power_cut:
        # With its own random generator: without the cut the seed is the same.
        dice = random.Random(f"power cut {seed}")
        place = min(int(terms.trades * dice.uniform(0.35, 0.7)), len(beats) - 1)
        cut = Cut(round(dice.uniform(0.5, 3.0), 1))
        beats[place] = Beat(beats[place].number, (*beats[place].actions, cut))
    return tuple(beats)


def describe(beats: Sequence[Beat]) -> str:
    """The schedule as text, one action per line, for a person who analyses a failing run."""
    return "\n".join(f"{beat.number:4}  {action}" for beat in beats for action in beat.actions) + "\n"
