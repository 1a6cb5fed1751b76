"""Tests of code that enqueues: run its jobs, assert on them, move the clock."""

from aftercommit.testing.asserting import (
    CapturedJobs,
    assert_enqueued,
    capture_jobs,
    refute_enqueued,
)
from aftercommit.testing.clock import travel
from aftercommit.testing.context import context_for
from aftercommit.testing.effects import assert_effects_once
from aftercommit.testing.mixin import JobsMixin
from aftercommit.testing.running import run_jobs

__all__ = [
    "CapturedJobs",
    "JobsMixin",
    "assert_effects_once",
    "assert_enqueued",
    "capture_jobs",
    "context_for",
    "refute_enqueued",
    "run_jobs",
    "travel",
]
