"""Rows that 0.1.0 has written: whatever has moved since, they mean what they meant."""

import json

from aftercommit import Cancel, schedule
from aftercommit.models import Job
from aftercommit.values import Cancelled, NewJob, RunError
from tests.app.chores import scheduled
from tests.app.models import Effect
from tests.app.tasks import add
from tests.worker.rig import commits

pytestmark = commits

RUN_FUNCTION = "aftercommit.schedules.run_function"
FUNCTION = "tests.app.chores.scheduled"


def test_a_function_that_was_scheduled_by_0_1_0_is_run(flush_queue, store):
    call = [FUNCTION, ["old"], {}, "default"]
    store.insert(
        [NewJob(task_path=RUN_FUNCTION, payload=json.dumps({"args": call, "kwargs": {}}))]
    )
    schedule(scheduled, ["new"])

    assert flush_queue() == 2

    assert set(Effect.objects.values_list("key", flat=True)) == {"old", "new"}
    assert set(Job.objects.values_list("task_path", flat=True)) == {RUN_FUNCTION}


def test_a_cancellation_that_0_1_0_wrote_down_names_a_class_that_can_be_imported(rig):
    result = add.enqueue(1, 2)
    claim = rig.claim(Job.objects.get().pk)
    error = RunError(exception_class_path="aftercommit.control.Cancel", traceback="Cancel: no")
    rig.store.finish(claim, Cancelled(error))

    result.refresh()

    assert result.errors[0].exception_class is Cancel
