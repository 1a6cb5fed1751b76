"""The functions of this package as methods of a ``TestCase``."""

from aftercommit.testing.asserting import assert_enqueued, capture_jobs, refute_enqueued
from aftercommit.testing.clock import travel
from aftercommit.testing.context import context_for
from aftercommit.testing.effects import assert_effects_once
from aftercommit.testing.running import run_jobs


class JobsMixin:
    """For test classes: ``class PayTests(JobsMixin, TestCase)``; see the functions."""

    run_jobs = staticmethod(run_jobs)
    assertEnqueued = staticmethod(assert_enqueued)
    assertEffectsOnce = staticmethod(assert_effects_once)
    assertNotEnqueued = staticmethod(refute_enqueued)
    capture_jobs = staticmethod(capture_jobs)
    travel = staticmethod(travel)
    context_for = staticmethod(context_for)
