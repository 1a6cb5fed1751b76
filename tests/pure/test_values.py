"""The values that rooms hand to each other."""

import dataclasses
from datetime import timedelta

import pytest

from aftercommit.values import Failed, NewJob, Released, RunError, Succeeded


def test_each_new_job_has_an_id_of_its_own():
    first, second = (NewJob(task_path="a.b", payload="{}") for _ in range(2))

    assert first.id != second.id


@pytest.mark.parametrize(
    "value",
    [
        NewJob(task_path="a.b", payload="{}"),
        Succeeded(),
        Failed(RunError(exception_class_path="ValueError", traceback="")),
        Released(),
    ],
)
def test_a_value_cannot_be_changed(value):
    name = dataclasses.fields(value)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


def test_a_released_run_keeps_its_place_unless_told_otherwise():
    assert Released().delay == timedelta(0)
    assert not Released().conflict
