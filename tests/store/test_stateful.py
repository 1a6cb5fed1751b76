"""All transitions in any order, compared with a model in Python after each step."""

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import IN_ORDER, TWO_AT_ONCE, Machine
from tests.tiers import size

EXAMPLES, STEPS = size(change=80, full=1000), size(change=40, full=80)


def steps(phases):
    """Return how much is tried; the same steps each time, but for the full tier."""
    return settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=EXAMPLES < 1000,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=phases,
        database=None,
    )


def test_rows_are_as_modelled_after_any_steps(transactional_db, phases=tuple(Phase)):
    Machine.seen.clear()

    run_state_machine_as_test(Machine, settings=steps(phases))

    assert {
        *("rolled back", "unique key held", "fenced", "rescued", "set aside"),
        *("in order", "in order, once more"),
        f"full: {TWO_AT_ONCE}",
        f"full: {IN_ORDER}",
    } <= Machine.seen
