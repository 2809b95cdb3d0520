"""Every activity is restricted to the process's own account by the names in its request (RISK-7)."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing

import pytest

import activities
from workers.own_account import keys_of

_TELLS = ("account", "order_key", "entry_key", "subject")


def _requests() -> list[tuple[str, type]]:
    """Every activity's name with the type of its request."""
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(activities.__path__, "activities."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            for _, method in inspect.getmembers(member, inspect.isfunction):
                name = getattr(method, "__temporal_activity_definition", None)
                if name is None:
                    continue
                arguments = {key: of for key, of in typing.get_type_hints(method).items() if key != "return"}
                found[name.name] = next(iter(arguments.values()))
    return sorted(found.items())


@pytest.mark.parametrize(("name", "request_type"), _requests())
def test_every_activitys_request_names_its_account_or_an_order_or_trade_of_it(name: str, request_type: type) -> None:
    """Without one, any account's worker could execute the request."""
    assert set(_TELLS) & set(request_type.model_fields), name  # type: ignore[attr-defined]  # pydantic models, all


def test_there_are_activities_to_look_at() -> None:
    """The search above finds activities."""
    names = [name for name, _ in _requests()]
    assert {"admit", "place", "cancel", "run_user_stream", "reconcile", "plan_quotes", "run_strategy"} <= set(names)
    assert len(names) > 20


def test_an_exits_order_and_its_trade_are_both_looked_up() -> None:
    """An order that names another account's trade is refused because of the trade, whatever account it claims."""

    class _Request:
        order_key = "a"
        entry_key = "b"

    assert list(keys_of(_Request())) == ["a", "b"]
