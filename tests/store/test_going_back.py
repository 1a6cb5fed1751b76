"""The statements of CHANGELOG.md for going back: they free what waits, but for paused tasks."""

import re
from pathlib import Path

from django.db import connections

from aftercommit.models import Blocked, Dependency, Job
from aftercommit.store.base import Store
from aftercommit.store.rules import pause_of
from aftercommit.values import TASK
from tests.store.given import claim_all, ready_job

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
WAITING = (Blocked.LIMIT, Blocked.RATE, Blocked.FAIR)


def test_what_waits_is_free_and_what_is_paused_waits_for_that_alone(store: Store) -> None:
    free = {waits(store, blocked) for blocked in WAITING}
    paused = {waits(store, blocked) for blocked in WAITING}
    path = Job.objects.values_list("task_path", flat=True)[0]
    store.pause(TASK, path, by="", why="")
    for job_id in paused:
        Dependency.objects.create(job_id=job_id, needs_id=pause_of(path))

    (block,) = re.findall(r"```sql\n(.*?)```", CHANGELOG.read_text(), flags=re.DOTALL)
    with connections[store.alias].cursor() as cursor:
        for statement in filter(str.strip, block.split(";")):
            cursor.execute(statement)

    assert {one.job_id for one in claim_all(store)} == free
    assert store.set_aside_of(path) == len(paused)
    store.resume(TASK, path)
    while store.bring_back(path):
        pass
    assert {one.job_id for one in claim_all(store)} == paused
    assert not Dependency.objects.exists()


def waits(store: Store, blocked: Blocked) -> object:
    """Enqueue a job that waits in a line."""
    job_id = ready_job(store)
    Job.objects.filter(id=job_id).update(
        claimable=False, waits_for=1, blocked=blocked, line="a line"
    )
    return job_id
