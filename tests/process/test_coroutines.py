"""Async tasks in a real worker: one event loop for all of them."""

from tests.app.models import Effect
from tests.app.tasks import async_child_exits, async_effect


def test_what_a_task_leaves_behind_does_not_end_the_loop_of_the_others(rig):
    rig.enqueue(async_child_exits, "leave")
    keys = [str(number) for number in range(5)]
    rig.enqueue_many(async_effect, [((key,), {}) for key in keys])

    worker = rig.worker("--drain", "--threads", "1")

    assert worker.wait() == 0
    assert "ended the event loop of async tasks" in worker.output
    assert sorted(effect.key for effect in Effect.objects.all()) == keys
