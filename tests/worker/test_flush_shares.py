"""``flush_queue --serial``, and how many jobs it runs."""

import pytest
from django.core.management import call_command

from aftercommit.management.commands import flush_queue
from aftercommit.models import Job
from aftercommit.worker.share import Share, alone
from tests.app.tasks import add
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_one_flush_at_a_time_for_a_share(store):
    add.enqueue(1, 1)
    share = Share(which=1, outof=2)

    with alone(share, ["default"]) as first, alone(share, ["default"]) as second:
        assert (first, second) == (True, False)
        with alone(Share(which=0, outof=2), ["default"]) as another:
            assert another

    def is_free():
        with alone(share, ["default"]) as again:
            return again

    wait_until(is_free)


def test_a_serial_flush_leaves_it_to_the_one_that_runs(capsys):
    result = add.enqueue(1, 1)

    with alone(Share(), ["default", "other"]):
        call_command("flush_queue", serial=True)
    assert capsys.readouterr().out == "Another flush_queue has this share: nothing was run.\n"
    assert Job.objects.get(id=result.id).state == "ready"

    def runs():  # the server may need a moment to end the session of the other one
        call_command("flush_queue", serial=True)
        return capsys.readouterr().out == "1 job was run.\n"

    wait_until(runs)


def test_by_default_it_runs_300_jobs(monkeypatch):
    asked = []
    plain = flush_queue.InlineWorker

    def worker(**given):
        asked.append(given["most"])
        return plain(**given)

    monkeypatch.setattr(flush_queue, "InlineWorker", worker)

    for words in ([], ["-j", "all"], ["-j", "7"]):
        call_command("flush_queue", *words)

    assert asked == [300, None, 7]
