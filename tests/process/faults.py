"""Loaded into workers by a test: they stand still where a test wants them to.

``AFTERCOMMIT_TEST_STANDSTILL`` names the places, with commas. Each notes that it is
reached and waits for the gate of the same name.
"""

import os
from collections.abc import Callable
from typing import Any

from aftercommit.store import store_for
from aftercommit.worker.alias import AliasWorker
from tests.app.notes import note, pass_gate


def after_claim(claim: Callable[..., Any]) -> Callable[..., Any]:
    """Stand still when jobs are claimed in the table and nobody here knows it."""

    def standing(*args: Any, **kwargs: Any) -> Any:
        if claims := claim(*args, **kwargs):
            note("claimed", queue=claims[0].queue)
            pass_gate("claimed")
        return claims

    return standing


def before_finish(finish_many: Callable[..., Any]) -> Callable[..., Any]:
    """Stand still when bodies are over and their outcomes not in the table."""

    def standing(store: Any, ended: Any) -> Any:
        if ended:
            note("finishing", queue=ended[0][0].queue)
            pass_gate("finishing")
        return finish_many(store, ended)

    return standing


def before_renew(renew: Callable[..., Any]) -> Callable[..., Any]:
    """Stand still when leases ought to be renewed; say how many still could be."""

    def standing(*args: Any, **kwargs: Any) -> Any:
        note("renewing")
        pass_gate("renewing")
        held = renew(*args, **kwargs)
        note("renewed", held=len(held.held))
        return held

    return standing


PLACES = {
    "claimed": ("claim", after_claim),
    "finishing": ("finish_many", before_finish),
    "renewing": ("renew", before_renew),
}


def noted(stop_fetching: Callable[..., None]) -> Callable[..., None]:
    """Say that a worker has heard that it is to stop."""

    def noting(station: Any) -> None:
        stop_fetching(station)
        note("stopping", using=station.using)

    return noting


def stand_still() -> None:
    """Put the wanted places into the store of this process."""
    store = type(store_for("default"))
    for name in filter(None, os.environ.get("AFTERCOMMIT_TEST_STANDSTILL", "").split(",")):
        method, standing = PLACES[name]
        setattr(store, method, standing(getattr(store, method)))


stand_still()
AliasWorker.stop_fetching = noted(AliasWorker.stop_fetching)
