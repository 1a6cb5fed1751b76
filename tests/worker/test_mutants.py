"""Each guard of the batches is taken away once; a test of theirs must notice."""

import inspect
from textwrap import dedent

import pytest

from aftercommit.worker.running import batches as plain
from aftercommit.worker.running import calls
from aftercommit.worker.running.atomic import batches as atomic
from aftercommit.worker.upkeep.replicas import ReplicaReads
from tests.worker import test_batch_context as context
from tests.worker import test_batches as batches
from tests.worker.batched import Together
from tests.worker.rig import commits

pytestmark = [commits]

MUTANTS = [
    (
        "a lost claim is not noticed",
        (atomic.Attempt, "_record", "if len(written) == len(self._good):", "if True:"),
        (batches.test_a_lost_claim_rolls_back_and_the_others_are_repeated, {}),
    ),
    (
        "nobody is called again in halves",
        (atomic.AtomicBatch, "run", "late or len(left) == 1", "True"),
        (batches.test_halves_find_the_bad_ones_and_the_others_are_committed_once, {"bad": {3}}),
    ),
    (
        "a search has no end",
        (atomic.AtomicBatch, "run", "self._calls >= MOST_CALLS", "False"),
        (batches.test_a_search_for_bad_ones_has_an_end, {}),
    ),
    (
        "those that were failed are committed as well",
        (atomic.Attempt, "_succeed", "if end.error is not None:", "if False:"),
        (batches.test_those_that_were_not_failed_commit_together, {}),
    ),
    (
        "who has failed keeps all its company",
        (plain.Batches, "most", "SMALLER * failed", "0"),
        (
            batches.test_the_more_often_a_job_has_failed_the_less_company_it_has,
            {"attempt": 2, "crashes": 0, "most": 15},
        ),
    ),
    (
        "the last attempt is one in company",
        (plain.Batches, "most", "failed + 1 >= claim.max_attempts", "False"),
        (batches.test_in_its_last_attempt_a_job_is_alone, {}),
    ),
    (
        "who has crashed has company",
        (plain.Batches, "most", "or claim.crashes", ""),
        (
            batches.test_the_more_often_a_job_has_failed_the_less_company_it_has,
            {"attempt": 2, "crashes": 1, "most": 1},
        ),
    ),
    (
        "one that is cancelled hears nothing",
        (calls.CallOfRun.cancelled, "fget", "run.cancel_requested or run.lost", "False"),
        (batches.test_one_that_is_cancelled_meanwhile_is_seen_and_stops_nobody, {}),
    ),
    (
        "a half has the context that the whole has left",
        (atomic.Attempt, "run", "self._executor.begin_call", "(lambda _runs: None)"),
        (context.test_the_log_of_each_call_is_kept_when_a_batch_is_halved, {}),
    ),
    (
        "a replica has the commit of the first job",
        (ReplicaReads, "_current_one", "for run in of_each_claim)", "for run in runs[:1])"),
        (
            context.test_a_batch_does_not_read_from_a_replica_that_lacks_one_of_them,
            {"behind": 2, "is_async": False},
        ),
    ),
]


def changed(owner, name, old, new):
    """Return a function with other words in its source; they must be there, once."""
    function = owner.fget if name == "fget" else inspect.getattr_static(owner, name)
    source = dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{name} says {source.count(old)} times {old!r}"
    namespace = {}
    exec(source.replace(old, new), function.__globals__, namespace)  # noqa: S102
    return namespace[function.__name__]


@pytest.fixture
def together(rig):
    return Together(rig)


mirror = context.mirror


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize(
    ("change", "killer"), [one[1:] for one in MUTANTS], ids=[one[0] for one in MUTANTS]
)
def test_a_guard_that_is_taken_away_is_noticed(change, killer, request, monkeypatch):
    owner, name, old, new = change
    test, given = killer
    names = inspect.signature(test).parameters
    values = {one: given[one] if one in given else request.getfixturevalue(one) for one in names}
    mutant = changed(owner, name, old, new)
    if name == "fget":
        monkeypatch.setattr(calls.CallOfRun, mutant.__name__, mutant)
    else:
        monkeypatch.setattr(owner, name, mutant)

    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(**values)
