"""What code and settings declare: versions side by side, removal, edits, and no twin."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from aftercommit import schedules
from aftercommit.models import Schedule
from aftercommit.schedules.declared import GONE_AFTER, SEEN_EVERY, check_in
from aftercommit.schedules.spec import Declared, Spec
from aftercommit.store.clock import DatabaseNow, ago
from tests.app import tasks as _declared  # noqa: F401 - its tasks are known
from tests.store.ticking import ADD, PAYLOAD, row, set_back, tick

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

NAME = "nightly"
SPEC = Spec(task_path=ADD, backend="default", payload=PAYLOAD, cron="0 4 * * *", timezone="UTC")
OLD = Declared(NAME, "settings", SPEC)
NEW = Declared(NAME, "settings", replace(SPEC, cron="0 5 * * *"))
LONG_AGO = GONE_AFTER * 2


def see(store, *declared, ends_others=False):
    """Do what a worker does that declares these."""
    check_in(store, {one.name: one for one in declared}, ends_others=ends_others)


def not_seen_for(span):
    """Let no worker have checked in for a while."""
    Schedule.objects.update(seen_at=ago(span))


def test_a_declaration_becomes_a_row_that_is_due_at_its_next_moment(store):
    see(store, OLD)

    found = row(NAME)
    assert (found.source, found.task_path, found.cron) == ("settings", ADD, "0 4 * * *")
    assert found.next_run == SPEC.timing.next_after(store.clock())
    assert not found.edited


def test_who_checks_in_again_changes_nothing(store, django_assert_max_num_queries):
    see(store, OLD)
    before = Schedule.objects.values().get()

    with django_assert_max_num_queries(2):
        see(store, OLD)

    assert Schedule.objects.values().get() == before


def test_a_worker_says_now_and_then_that_it_declares_a_schedule(store):
    see(store, OLD)
    not_seen_for(SEEN_EVERY * 2)

    see(store, OLD)

    assert store.clock() - row(NAME).seen_at < SEEN_EVERY


def test_a_new_version_replaces_the_declaration_and_leaves_no_twin(store):
    see(store, OLD)

    see(store, NEW)

    assert Schedule.objects.count() == 1
    assert row(NAME).cron == "0 5 * * *"
    assert row(NAME).next_run == NEW.spec.timing.next_after(store.clock())


def test_a_worker_of_the_old_version_undoes_nothing(store):
    see(store, OLD)
    see(store, NEW)

    see(store, OLD)  # it was started again, or goes on

    assert row(NAME).cron == "0 5 * * *"


def test_the_old_version_makes_no_ticks_of_what_has_changed(store):
    see(store, OLD)
    see(store, NEW)
    set_back(NAME, next_run=ago(timedelta(days=1)))

    assert not tick(store, digests=[OLD.digest]).ticked
    assert tick(store, digests=[NEW.digest]).ticked


def test_a_version_that_was_taken_back_is_replaced_once_its_workers_are_gone(store):
    see(store, OLD)
    see(store, NEW)
    not_seen_for(GONE_AFTER / 2)
    see(store, OLD)
    assert row(NAME).cron == "0 5 * * *"

    not_seen_for(LONG_AGO)
    see(store, OLD)

    assert row(NAME).cron == "0 4 * * *"
    see(store, NEW)  # one that comes late: it was in force before
    assert row(NAME).cron == "0 4 * * *"


def test_a_removed_schedule_ends_when_no_worker_has_declared_it_for_a_while(store):
    see(store, OLD)

    see(store, ends_others=True)
    assert row(NAME).ended_at is None
    not_seen_for(LONG_AGO)
    see(store, ends_others=False)  # right after its start: the others may start as well
    assert row(NAME).ended_at is None
    see(store, ends_others=True)

    assert row(NAME).ended_at is not None
    assert row(NAME).next_run is None


def test_a_schedule_that_nobody_declares_is_run_by_nobody_meanwhile(store):
    see(store, OLD)
    set_back(NAME, next_run=ago(timedelta(days=1)))

    assert not tick(store).ticked
    assert not tick(store, digests=["of another schedule"]).ticked


def test_a_schedule_that_comes_back_goes_on_from_then(store):
    see(store, OLD)
    set_back(NAME, ended_at=ago(timedelta(days=9)), seen_at=ago(timedelta(days=9)), next_run=None)

    see(store, OLD)

    assert row(NAME).ended_at is None
    assert row(NAME).next_run > store.clock()


def test_one_whose_workers_were_only_away_makes_up_for_it(store):
    see(store, OLD)
    away = timedelta(days=2)
    set_back(NAME, ended_at=DatabaseNow(), seen_at=ago(away), next_run=None)

    see(store, OLD)

    assert row(NAME).next_run < store.clock()


def test_an_edit_is_kept_by_deploys_and_can_be_taken_back(store):
    see(store, OLD)
    schedules.edit(NAME, using="default", queue="slow")

    see(store, NEW)
    found = schedules.get(NAME, using="default")
    assert (found.queue, found.cron, found.edited) == ("slow", "0 5 * * *", ("queue",))

    found = schedules.reset(NAME, using="default")
    assert (found.queue, found.cron, found.edited) == ("", "0 5 * * *", ())


def test_an_edited_time_is_kept_while_the_declaration_changes(store):
    see(store, OLD)
    schedules.edit(NAME, using="default", cron="30 6 * * *")
    due = row(NAME).next_run

    see(store, NEW)

    assert (row(NAME).cron, row(NAME).next_run) == ("30 6 * * *", due)
    assert schedules.reset(NAME, using="default").cron == "0 5 * * *"
    assert row(NAME).next_run == NEW.spec.timing.next_after(store.clock())


def test_an_edit_back_to_what_is_declared_is_none(store):
    see(store, OLD)
    schedules.edit(NAME, using="default", queue="slow")

    assert schedules.edit(NAME, using="default", queue="").edited == ()


def test_what_is_disabled_stays_so_when_it_is_declared_anew(store):
    see(store, OLD)
    schedules.disable(NAME, using="default")

    see(store, NEW)

    assert (row(NAME).enabled, row(NAME).next_run) == (False, None)


def test_what_people_have_made_is_an_edit_once_it_is_declared(store):
    schedules.create(NAME, task=ADD, args=[1, 2], cron="15 3 * * *", timezone="UTC")

    see(store, OLD)

    found = schedules.get(NAME, using="default")
    assert (found.source, found.cron, found.edited) == ("settings", "15 3 * * *", ("cron",))
    assert schedules.reset(NAME, using="default").cron == "0 4 * * *"


def test_two_that_start_at_once_write_one_row(store, other):
    see(store, OLD)
    other.do(see, store, OLD)

    assert Schedule.objects.count() == 1


def test_what_a_later_version_has_declared_can_be_read():
    later = {**json.loads(SPEC.as_json()), "calendar": "greek"}

    assert Spec.from_json(json.dumps(later)) == SPEC
