"""Tags: given by the declaration and the call, stored with the job, found exactly."""

import json
import pickle

import pytest

from aftercommit import jobs, task
from aftercommit.enqueue import registry
from aftercommit.errors import BadSelection, ConfigurationError
from aftercommit.models import Job
from tests.app.tasks import add
from tests.django.test_jobs import ready_job
from tests.django.test_operating_commands import run
from tests.pure.test_tags import ODD

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def _tagged(number=0):
    """Do nothing; a test declares it."""


@pytest.fixture
def tagged(monkeypatch):
    """Return a task that declares two tags."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    return task(tags=["mail", "slow"])(_tagged)


def tags():
    return [job.tags for job in Job.objects.order_by("id")]


def test_a_job_has_the_tags_of_the_declaration_and_those_of_the_call(tagged):
    tagged.enqueue()
    tagged.using(tags=["slow", "eu"]).enqueue()
    tagged.using(tags=["eu"]).using(tags=("vip",), priority=3).enqueue()
    tagged.using(tags=[]).enqueue()
    add.enqueue(1, 2)
    add.using(tags=["eu"]).enqueue(1, 2)

    assert tags() == [
        ["mail", "slow"],
        ["mail", "slow", "eu"],
        ["mail", "slow", "eu", "vip"],
        ["mail", "slow"],
        [],
        ["eu"],
    ]


def test_many_jobs_have_them_as_well(tagged):
    tagged.using(tags=["eu"]).enqueue_many([(1,), (2,)])

    assert tags() == [["mail", "slow", "eu"]] * 2


def test_unique_jobs_have_them(monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    once = task(unique="until_finished", tags=["mail"])(_tagged)
    once.enqueue(1)
    once.enqueue_many([(2,), (3,)])

    assert tags() == [["mail"]] * 3


@pytest.mark.parametrize("given", ["mail", 3, [""], ["a\nb"], [3]], ids=repr)
def test_what_is_no_tag_is_refused_at_the_edge(given, monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))

    with pytest.raises(ConfigurationError, match=r"test_tags\._tagged: tags: "):
        task(tags=given)(_tagged)
    with pytest.raises(ConfigurationError, match="tags: "):
        add.using(tags=given)
    with pytest.raises(ConfigurationError, match="at most 20"):
        add.using(tags=[*map(str, range(15))]).using(tags=[*map(str, range(15, 30))])


def test_none_means_no_tags_in_the_declaration_and_no_more_in_the_call(tagged):
    assert task(tags=None)(_tagged).tags == ()
    assert tagged.using(tags=None).tags == ("mail", "slow")


def test_a_variant_with_tags_survives_a_pickle(tagged):
    assert pickle.loads(pickle.dumps(add.using(tags=["eu"]))).tags == ("eu",)  # noqa: S301


@pytest.mark.parametrize("tag", ODD)
def test_a_tag_is_found_exactly_as_it_is_written(tag):
    for one in ODD:
        add.using(tags=["first", one, "last"]).enqueue(1, 2)
    add.using(tags=[f"{tag}x", f"x{tag}"]).enqueue(1, 2)
    ready_job()

    (found,) = jobs.find(tag=tag)

    assert found.tags == ["first", tag, "last"]
    assert jobs.find(tag="first").count() == len(ODD)


@pytest.mark.parametrize("tag", ["", " a", 3, "a\nb", ["a"], "x" * 101])
def test_what_no_tag_can_be_is_not_looked_for(tag):
    with pytest.raises(BadSelection, match=r"^tag: expected "):
        jobs.find(tag=tag)


def test_an_operation_is_about_the_jobs_with_the_tag():
    add.using(tags=["eu"]).enqueue(1, 2)
    add.enqueue(1, 2)

    assert jobs.find(tag="eu").cancel().changed == 1
    assert Job.objects.filter(state="ready").count() == 1


def test_the_commands_show_them_and_select_by_them():
    add.using(tags=["eu", "a b"]).enqueue(1, 2)
    add.enqueue(1, 2)

    assert run("jobs", "list", "--tag", "eu")[1].endswith("tests.app.tasks.add  #eu  #a b\n")
    (listed,) = json.loads(run("jobs", "list", "--tag", "a b", "--json")[1])
    assert listed["tags"] == ["eu", "a b"]
    assert 'tags: ["eu", "a b"]' in run("jobs", "show", listed["id"])[1]
    assert (
        run("cancel", "--tag", "eu", "--database", "default")[1] == "default: 1 job cancelled.\n"
    )


def test_a_column_that_somebody_else_has_written_is_shown_as_it_is():
    job_id = ready_job()
    for text, shown in [("no JSON", ["no JSON"]), ('{"a": 1}', ['{"a": 1}']), ("[1]", ["[1]"])]:
        Job.objects.update(tags=text)
        assert Job.objects.get(pk=job_id).tags == shown


def test_a_row_that_is_written_by_the_orm_has_the_same_text():
    job_id = ready_job()
    Job.objects.update(tags=["a,b", "c"])

    assert [one.id for one in jobs.find(tag="a,b")] == [job_id]
    assert jobs.find(tag="b").count() == 0
