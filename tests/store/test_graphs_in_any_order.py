"""Random graphs, random ends: compared with a model in Python after each step."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.graph_machine import GraphMachine
from tests.tiers import size

MANY = 600
EXAMPLES, STEPS = size(change=15, full=MANY), size(change=30, full=50)


def steps(phases):
    """Return how much is tried; the same steps each time, but for the full tier."""
    return settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=EXAMPLES < MANY,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=phases,
        database=None,
    )


def test_graphs_are_as_modelled_after_any_steps(transactional_db, phases=tuple(Phase)):
    GraphMachine.seen.clear()

    run_state_machine_as_test(GraphMachine, settings=steps(phases))

    if EXAMPLES >= MANY:
        assert {
            *("rolled back", "needs an older one", "waits again", "vanished", "quarantined"),
            *("cancelled while it waits", "died after its commit"),
            *("ended by another: cancel", "ended by another: fail"),
            *("free: all succeeded", "free: run"),
        } <= GraphMachine.seen
    assert {"rolled back", "free: all succeeded"} <= GraphMachine.seen
