"""Columns that few jobs need: an INSERT names them for those jobs, beside others that do not."""

import pytest

from aftercommit.models import Blocked, Job
from aftercommit.store.columns import INSERTED, columns_of
from aftercommit.values import NewJob, NewJobs

PLAIN = NewJob(task_path="a.b", payload="{}")
TAGGED = NewJob(task_path="a.b", payload="{}", tags='["x"]')
RATED = NewJob(task_path="a.b", payload="{}", limit_key="r", rate_key="r")
FAIR = NewJob(task_path="a.b", payload="{}", limit_key="f", fair_key="f")


def test_an_insert_of_plain_jobs_names_none_of_them():
    assert columns_of([PLAIN, PLAIN]) == INSERTED


def written(job):
    row = Job.objects.get(id=job.id)
    return (
        *(row.tags, row.limit_key, row.rate_key, row.fair_key),
        *(row.line, row.blocked, row.claimable, row.waits_for),
    )


ROWS = [
    (PLAIN, ([], None, None, None, None, None, True, 0)),
    (TAGGED, (["x"], None, None, None, None, None, True, 0)),
    (RATED, ([], "r", "r", None, None, None, True, 0)),
    (FAIR, ([], "f", None, "f", "f", Blocked.FAIR, False, 1)),
]


@pytest.mark.parametrize(("job", "row"), ROWS)
def test_one_job_has_its_columns(store, job, row):
    store.insert([job])

    assert written(job) == row


def test_jobs_of_all_kinds_are_inserted_together(store):
    store.insert([job for job, _row in ROWS])

    assert [written(job) for job, _row in ROWS] == [row for _job, row in ROWS]


@pytest.mark.parametrize(("like", "row"), ROWS)
def test_many_alike_have_the_columns_of_the_first(store, like, row):
    ids = [NewJob(task_path="", payload="").id for _number in range(2)]

    store.insert_alike(NewJobs(ids=[one.hex for one in ids], payloads=["{}", "{}"], like=like))

    rows = Job.objects.filter(id__in=ids)
    assert [(one.tags, one.rate_key, one.line, one.claimable) for one in rows] == [
        (row[0], row[2], row[4], row[6])
    ] * 2
