"""The guards of graphs, each weakened in memory: see ``mutants``."""

from typing import Any

import pytest

from aftercommit.store.base import Store
from aftercommit.store.graphs.edges import Edges
from aftercommit.store.graphs.freeing import Freeing
from aftercommit.store.graphs.inserting import GraphInserting
from aftercommit.store.graphs.sweep import Sweeping


def ends_wait_for_those_who_keep_rows(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Write an end, a rescue or a deletion without a look at who keeps the row."""
    patch.setattr(store, "_kept", lambda *_given: set())


def a_holder_that_goes_is_missing(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give up if the holder of a unique key has gone before it could be kept."""
    module = __import__("aftercommit.store.graphs.inserting", fromlist=["inserting"])
    patch.setattr(module, "TRIES_AT_HOLDER", 1)


def other_edges_are_not_looked_at(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take all that a job needs for ended as soon as one of it is."""
    mark = Edges._mark

    def mark_all(self: Any, needs: Any, *, most: int) -> Any:
        marked, more = mark(self, needs, most=most)
        others = self._open.filter(job_id__in=[one.job_id for one in marked])
        others.update(outcome="succeeded")
        return marked, more

    patch.setattr(Edges, "_mark", mark_all)


def nobody_looks_again(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget that another end may have been written at the same time."""
    patch.setattr(Freeing, "_look_again", lambda *_given: None)


def the_sweep_does_nothing(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Read edges, and do nothing about them."""
    patch.setattr(Sweeping, "_sweep", lambda *_given: True)


def who_enqueues_does_not_look_again(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget that a job may have ended while the call that waits for it was enqueued."""
    patch.setattr(GraphInserting, "_need", lambda *_given: None)


def an_end_frees_after_its_commit(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Pass the end on in a transaction of its own."""
    pass_on = Freeing._pass_on

    def later(self: Any, needed: Any) -> None:
        self._after_commit(lambda: pass_on(self, needed))

    patch.setattr(Freeing, "_pass_on", later)


def results_are_lost(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Free a job without the results that it has waited for."""
    patch.setattr(Freeing, "_fill", lambda *_given: {})


def rows_may_go_before_the_commit(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let a row that goes with its success go, although a call is about to need it."""
    patch.setattr(store, "_keep", lambda _self, job_ids: {*job_ids})


def the_end_looks_for_no_edges(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete each row that is not marked, as if the mark came with the edge."""

    def delete(self: Any, job_ids: Any) -> Any:
        self._jobs.filter(id__in=job_ids).delete()
        return job_ids

    patch.setattr(store, "_delete_unless_needed", delete)
