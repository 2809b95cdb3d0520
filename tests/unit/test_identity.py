"""The ledger's identity: what is stamped, and who is refused with which sentence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from domain.identity import (
    FIRST_START,
    WHAT_IT_HELD,
    AccountIdentity,
    IdentityError,
    LedgerIdentity,
    Names,
    Standing,
    check_account,
    check_mode,
    names_in_force,
    stamped_as,
)

_AT = datetime(2026, 11, 29, tzinfo=UTC)


def _ledger(mode: str = "paper", names: Names | None = None) -> LedgerIdentity:
    return LedgerIdentity(mode, names or Names(), FIRST_START, _AT)


@pytest.mark.parametrize(("stamped", "brought"), [("paper", "live"), ("live", "paper")])
def test_a_process_of_the_other_mode_is_refused_and_told_what_to_do(stamped: str, brought: str) -> None:
    """The sentence names both modes and how to get a separate ledger."""
    check_mode(_ledger(stamped), stamped)
    with pytest.raises(IdentityError) as refused:
        check_mode(_ledger(stamped), brought)
    assert refused.value.code == "LEDGER_OF_OTHER_MODE"
    assert f"is {stamped} since 2026-11-29" in refused.value.sentence
    assert "--data folder" in refused.value.sentence


def test_new_ledgers_of_paper_and_live_share_no_name() -> None:
    """They share neither namespace nor queues, and paper keeps the present names."""
    _, paper = stamped_as("paper", {}, holds_something=False)
    by, live = stamped_as("live", {}, holds_something=False)
    assert by == FIRST_START
    assert paper == Names("default", "orders", "streams", "watchers", "strategy")
    for name in Names.__dataclass_fields__:
        assert getattr(paper, name) != getattr(live, name)


def test_a_ledger_that_holds_something_keeps_the_names_of_before() -> None:
    """Open workflows stay where they are, in live too, and a name in the settings is adopted."""
    by, names = stamped_as("live", {"orders_queue": "mine"}, holds_something=True)
    assert by == WHAT_IT_HELD
    assert names == Names(orders_queue="mine")


def test_a_name_that_contradicts_the_stamp_is_refused_without_being_repeated() -> None:
    """The stamp decides; the same name is accepted, another one would leave open workflows without workers."""
    stamped = _ledger(names=Names(namespace="kept"))
    assert names_in_force(stamped, {}) == stamped.names
    assert names_in_force(stamped, {"namespace": "kept"}) == stamped.names
    with pytest.raises(IdentityError) as refused:
        names_in_force(stamped, {"namespace": "a-secret-slip"})
    assert "temporal.namespace" in refused.value.sentence
    assert "a-secret-slip" not in refused.value.sentence


def test_a_new_key_of_the_same_account_is_taken_and_anothers_is_refused() -> None:
    """The venue's own id of the account decides, not the key; before it is known any key is accepted."""
    check_account(AccountIdentity("main", "coinbase", None, _AT), "coinbase", "p-1")
    check_account(AccountIdentity("main", "coinbase", "p-1", _AT), "coinbase", "p-1")
    for venue, answered in (("coinbase", "p-2"), ("other", "p-1")):
        with pytest.raises(IdentityError, match="of another"):
            check_account(AccountIdentity("main", "coinbase", "p-1", _AT), venue, answered)


def test_only_live_wants_to_be_armed_and_trouble_holds_for_both() -> None:
    """Paper buys unarmed; live does not; problems known to the process refuse entries in either mode."""
    assert Standing("paper").refusal == ""
    assert "not armed" in Standing("live").refusal
    assert Standing("live", armed=True).refusal == ""
    for standing in (Standing("live", armed=True, trouble="it is away"), Standing("paper", trouble="it is away")):
        assert standing.refusal == "it is away; exits go on"
