"""A job is given up for the deaths that it was the cause of, and hardly for others."""

import json

import pytest

from aftercommit import errors
from aftercommit.store.blame import (
    DEATHS_FOR_EACH_BLAME,
    PROCESS_CRASHED,
    WORKER_DIED,
    is_given_up,
    process_crashed,
)

OWN, OTHER, FAILED = PROCESS_CRASHED, WORKER_DIED.exception_class_path, "builtins.ValueError"
MOST = 3


def given_up(*paths, runs=None, crashes=None):
    entries = [{"exception_class_path": path, "traceback": "", "worker_id": ""} for path in paths]
    died = sum(path != FAILED for path in paths)
    return is_given_up(
        json.dumps(entries),
        runs=len(paths) if runs is None else runs,
        crashes=died if crashes is None else crashes,
        max_crashes=MOST,
    )


@pytest.mark.parametrize(
    ("paths", "end"),
    [
        ([OWN, OWN], False),
        ([OWN, OWN, OWN], True),
        ([OWN, FAILED, OTHER, OWN, FAILED, OWN], True),
        ([OTHER] * (MOST * DEATHS_FOR_EACH_BLAME - 1), False),
        ([OTHER] * (MOST * DEATHS_FOR_EACH_BLAME), True),
        ([OWN, OWN] + [OTHER] * 20, False),
    ],
)
def test_which_deaths_are_too_many(paths, end):
    assert given_up(*paths) is end


def test_what_was_before_a_retry_by_hand_does_not_count():
    assert not given_up(OWN, OWN, OWN, OWN, runs=1, crashes=1)
    assert given_up(OWN, OWN, OWN, OWN, runs=3, crashes=3)


def test_the_errors_are_documented_classes():
    for entry in (WORKER_DIED, process_crashed("signal SIGSEGV")):
        name = entry.exception_class_path.removeprefix("aftercommit.errors.")
        assert hasattr(errors, name)
    assert "signal SIGSEGV" in process_crashed("signal SIGSEGV").traceback
