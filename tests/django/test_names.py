"""A name of its own: jobs find their task wherever its function is."""

import importlib
import pickle
import sys
from textwrap import dedent

import pytest
from django.core.management import call_command

from aftercommit import task
from aftercommit._compat import InvalidTask
from aftercommit.enqueue import registry
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import declared_tasks, registered
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job, State
from tests.django import tasks
from tests.worker.rig import commits

OLD = "tests.django.formerly.charge"


@pytest.fixture(autouse=True)
def _declared_for_this_test_only(monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes and imports a module of this text."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text("from aftercommit import task\n" + dedent(text))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return write


CHARGE = f"""
@task(name="billing.charge", aliases=["{OLD}"])
def charge(order_id):
    return ["charged", order_id]
"""


@pytest.fixture
def charge(module):
    return module("names_billing", CHARGE).charge


@commits
def test_a_job_is_stored_under_the_name(charge):
    job_id = charge.enqueue(1).id
    (other,) = charge.enqueue_many([(2,)])

    assert {job.task_path for job in Job.objects.all()} == {"billing.charge"}
    assert charge.get_result(job_id).args == [1]
    assert charge.get_result(other).task == charge


@commits
@pytest.mark.parametrize("name", ["billing.charge", OLD, "names_billing.charge"])
def test_jobs_of_every_name_run_under_the_present_one(charge, name, settings):
    """Queued under the alias, and before the task had a name."""
    settings.TASKS = {"default": settings.TASKS["default"]}
    job_id = charge.enqueue(1).id
    Job.objects.filter(pk=job_id).update(task_path=name)

    call_command("flush_queue")

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.return_value) == (State.SUCCEEDED, ["charged", 1])
    assert charge.get_result(job_id).return_value == ["charged", 1]


def test_the_name_is_djangos_module_path_and_name(charge):
    assert (charge.module_path, charge.name) == ("billing.charge", "billing.charge")
    assert charge.using(priority=5).module_path == "billing.charge"
    assert (tasks.note.module_path, tasks.note.name) == ("tests.django.tasks.note", "note")


def test_a_named_task_can_be_pickled(charge):
    variant = charge.using(priority=7)

    assert pickle.loads(pickle.dumps(charge)) == charge  # noqa: S301
    assert pickle.loads(pickle.dumps(variant)) == variant  # noqa: S301
    assert charge.aliases == (OLD,)


def test_a_task_of_several_names_is_declared_once(charge):
    assert len([one for one in declared_tasks() if one is charge]) == 1


def test_a_name_is_looked_up_and_not_imported(charge):
    assert known_task("billing.charge") is charge
    assert known_task("billing.other") is None
    assert "billing" not in sys.modules


@pytest.mark.parametrize(
    "other",
    [
        '@task(name="billing.charge")',
        f'@task(name="{OLD}")',
        '@task(aliases=("billing.charge",))',
        f'@task(name="shop.charge", aliases=("{OLD}",))',
        '@task(name="names_billing.charge")',
    ],
)
def test_a_name_that_another_task_has_is_refused_where_it_is_declared(charge, module, other):
    before = dict(registry._declared)

    with pytest.raises(InvalidTask, match=r"is a name of names_billing\.charge\. A worker finds"):
        module("names_shop", f"{other}\ndef another():\n    pass\n")

    assert registry._declared == before


def test_a_function_that_is_left_at_the_old_place_is_refused(charge, module):
    module("names_left", "@task\ndef charge(): pass\n")

    with pytest.raises(InvalidTask, match=r"is a name of names_left\.charge"):
        module("names_moved", "@task(aliases=['names_left.charge'])\ndef charge(): pass\n")


def test_a_module_that_is_executed_again_replaces_its_names(charge):
    again = importlib.reload(sys.modules["names_billing"]).charge

    assert registered("billing.charge") is registered(OLD) is again is not charge


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "charge me"}, "name must be of parts with dots between them"),
        ({"name": "nodot"}, "such as 'billing.charge'"),
        ({"name": ""}, "name must be"),
        ({"name": 5}, "got 5"),
        ({"name": "a." + "b" * 255}, "at most 255 characters"),
        ({"name": "billing..charge"}, "name must be"),
        ({"name": "billing.__main__\n"}, "name must be"),
        ({"name": "aftercommit.publish"}, "must not begin with 'aftercommit.'"),
        ({"aliases": "shop.charge"}, "aliases must be a tuple of names"),
        ({"aliases": 5}, "aliases must be a tuple of names"),
        ({"aliases": ("shop.charge", "no dots")}, "an alias must be of parts"),
    ],
)
def test_a_name_that_cannot_be_looked_up_is_refused(options, said):
    with pytest.raises(ConfigurationError, match=said):
        task(**options)(tasks.note.func)


def test_a_name_belongs_to_the_declaration():
    with pytest.raises(TypeError, match="'name' cannot vary from call to call"):
        tasks.note.using(name="billing.note")
