"""Settings converted for `domain` and `activities`: percent becomes a fraction, sections become plain values."""

from __future__ import annotations

from decimal import Decimal

from activities.leases import LeaseTerms
from activities.policy import Policy
from domain.entries import EntryStyle, TriggerRules, Triggers
from domain.exits import ExitRules
from domain.limit_groups import GroupKind, GroupLimits, LimitGroup
from domain.protection import Protection, ProtectionKind
from exchange.coinbase.adapter import CoinbaseExchange
from exchange.coinbase.config import CoinbaseConfig
from exchange.port import Exchange
from exchange.streams import ReconnectSettings
from workers.settings import ExitSettings, Settings
from workers.settings.risk import TriggerLimitSettings

__all__ = [
    "exchange_of",
    "exit_rules",
    "lease_terms",
    "limit_groups",
    "policy_of",
    "protection_for",
    "triggers_of",
]


def exit_rules(exits: ExitSettings, *, by_hand: bool = False) -> ExitRules:
    """A trade's exit rules from a section of percentages; `by_hand`: a person entered it."""
    return ExitRules(
        hard_stop=_fraction(exits.hard_stop_pct),
        soft_stop=_fraction(exits.soft_stop_pct),
        trailing_arm=_fraction(exits.trailing_arm_pct),
        trailing_atr_multiple=exits.trailing_atr_multiple,
        trailing_min_distance=_fraction(exits.trailing_min_distance_pct),
        trailing_max_distance=_fraction(exits.trailing_max_distance_pct),
        trailing_step_atr=exits.trailing_step_atr,
        take_profit=_fraction(exits.take_profit_pct) if exits.take_profit_enabled else None,
        take_profit_atr=exits.take_profit_atr_multiple if exits.take_profit_enabled else None,
        signal_exit=exits.signal_exit_enabled and (exits.signal_exit_by_hand or not by_hand),
        signal_exit_net=exits.signal_exit_after_fees,
        signal_exit_gain=_fraction(exits.signal_exit_min_gain_pct),
        limit_offset=1 + _fraction(exits.limit_offset_pct),
        reprice_seconds=exits.reprice_interval_s,
        max_reprices=exits.max_reprices,
        stale_seconds=exits.price_stale_after_s,
        retry_max_seconds=exits.retry_backoff_max_s,
    )


def protection_for(settings: Settings, trigger: str) -> Protection | None:
    """The protection at the exchange for a trade entered by `trigger`; None: only monitored exits."""
    given = settings.triggers.get(trigger)
    if given is None or given.protection.kind == "none":
        return None
    chosen, exits = given.protection, settings.exits_for(trigger)
    bracket = chosen.kind == "bracket"
    return Protection(
        kind=ProtectionKind.BRACKET if bracket else ProtectionKind.STOP_LIMIT,
        stop=_fraction(chosen.stop_pct or exits.hard_stop_pct),
        take_profit=_fraction(chosen.take_profit_pct or exits.take_profit_pct) if bracket else None,
        limit_offset=_fraction(chosen.limit_offset_pct),
        failsafe=chosen.failsafe_on_sltp_error,
        tries=chosen.tries,
    )


def triggers_of(settings: Settings) -> Triggers:
    """The trigger table."""
    return {
        name: TriggerRules(
            size_quote=given.size_quote,
            size_base=given.size_base,
            size_share=None if given.size_pct is None else _fraction(given.size_pct),
            style=EntryStyle(given.order_type),
            expiry=given.expiry_s,
            valid_seconds=float(given.valid_s),
            source=given.source,
            exits=exit_rules(settings.exits_for(name)),
            protection=protection_for(settings, name),
        )
        for name, given in settings.triggers.items()
    }


def limit_groups(settings: Settings) -> tuple[LimitGroup, ...]:
    """Strategies, then triggers, that have limits of their own."""
    risk = settings.risk
    strategies = (
        LimitGroup(GroupKind.STRATEGY, name, frozenset(given.triggers), _group_limits(given))
        for name, given in risk.strategies.items()
    )
    triggers = (
        LimitGroup(GroupKind.TRIGGER, name, frozenset({name}), _group_limits(given))
        for name, given in risk.triggers.items()
    )
    return (*strategies, *triggers)


def _group_limits(given: TriggerLimitSettings) -> GroupLimits:
    return GroupLimits(given.budget, given.max_open_trades, given.daily_loss_limit)


def policy_of(settings: Settings) -> Policy:
    """The settings for the activities."""
    return Policy(
        account=settings.account,
        currency=settings.risk.currency,
        dry_run=settings.dry_run,
        speed=Decimal(str(settings.speed)),
        allowed=frozenset(settings.symbols.allow),
        disabled=frozenset(settings.symbols.disabled),
        blocked=frozenset(settings.symbols.block),
        hodl=frozenset(settings.symbols.hodl),
        signals_sell=settings.strategy.enabled,
        max_open_buys=settings.symbols.max_open_buys,
        max_open_trades=settings.risk.max_open_trades,
        groups=limit_groups(settings),
        max_spread=_fraction(settings.risk.max_spread_pct),
        buy_on_red_day=settings.risk.allow_buys_on_red_day,
        max_position=_fraction(settings.risk.max_position_pct),
        daily_loss_limit=settings.risk.daily_loss_limit,
        losing_streak=settings.risk.losing_trades_in_a_row,
        market_stale_seconds=settings.risk.market_stale_after_s,
        balance_stale_seconds=settings.risk.balance_stale_after_s,
        atr_period=settings.exits.atr_period,
        atr_candle_seconds=settings.exits.atr_candle_minutes * 60,
        market_collar=_fraction(settings.orders.market_collar_pct),
        post_only_attempts=settings.orders.post_only_attempts,
        post_only_backoff=settings.orders.post_only_backoff_s,
        late_acceptance_seconds=int(settings.orders.unknown_resolution_s),
        triggers=triggers_of(settings),
    )


def lease_terms(settings: Settings) -> LeaseTerms:
    """Lease terms of streams and watchers."""
    seconds = float(settings.streams.lease_s)
    return LeaseTerms(seconds=seconds, renew_seconds=seconds / 4)


def exchange_of(settings: Settings) -> Exchange:
    """The account's exchange; paper and live differ only in address, trust root and keys.

    Raises UnreachableError(NO_EXCHANGE) without addresses, and ApiKeyError for a key that can't be used.
    """
    streams = settings.streams
    return CoinbaseExchange(
        CoinbaseConfig(
            rest_address=settings.rest_address,
            stream_url=settings.stream_address,
            user_stream_url=settings.user_stream_address,
            key_file=settings.exchange.key_file,
            ca_file=settings.exchange.ca_file,
            connect_timeout=float(settings.exchange.connect_timeout_s),
            read_timeout=float(settings.exchange.timeout_s),
            private_rate=float(settings.exchange.private_requests_per_s),
            late_acceptance_seconds=int(settings.orders.unknown_resolution_s),
            streams=ReconnectSettings(
                first_frame=float(streams.first_frame_timeout_s),
                idle=float(streams.idle_timeout_s),
                backoff_first=float(streams.reconnect_min_s),
                backoff_cap=float(streams.reconnect_max_s),
            ),
        )
    )


def _fraction(percent: Decimal) -> Decimal:
    return percent / 100
