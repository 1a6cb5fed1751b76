"""Each part of a key, and each bound of debounce, is taken away once; a test must notice."""

import inspect
from textwrap import dedent

import pytest
from django.db import DataError, transaction

from aftercommit.enqueue import unique as keys
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.store import unique as places
from tests.django import test_unique as tests

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def rewrite(patch, owner, name, old, new):
    """Change the source of a function; the text must be there, once."""
    function = getattr(owner, name)
    source = dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{name} says {source.count(old)} times {old!r}"
    namespace = {}
    exec(source.replace(old, new), function.__globals__, namespace)  # noqa: S102
    patch.setattr(owner, name, namespace[name])


# DataError: a key that is too long for the column.
NOTICED = (AssertionError, pytest.fail.Exception, ConfigurationError, DataError)
KEYS = [
    (
        "the order in dicts counts",
        ("key_of", "sort_keys=True", "sort_keys=False"),
        tests.test_dicts_are_compared_without_their_order,
    ),
    (
        "the task is not in the key",
        ("key_of", "{task.module_path}({", "({"),
        tests.test_two_tasks_never_share_a_key,
    ),
    (
        "the task is not in a key of one's own",
        ("key_of", "{task.module_path}:{given}", "{given}"),
        tests.test_two_tasks_never_share_a_key,
    ),
    (
        "a short hash",
        ("key_of", "hexdigest()})", "hexdigest()[:4]})"),
        tests.test_thousands_of_calls_have_as_many_keys,
    ),
    (
        "arguments instead of their hash",
        ("key_of", "hashlib.sha256(chosen.encode()).hexdigest()", "chosen"),
        tests.test_a_key_does_not_show_arguments,
    ),
    (
        "what is cut off does not count",
        ("key_of", "digest = hashlib.sha256(key.encode())", 'digest = hashlib.sha256(b"")'),
        tests.test_a_key_that_is_too_long_for_the_column_is_still_its_own,
    ),
    (
        "a key as long as the column is cut",
        ("key_of", "len(key) > LONGEST_KEY", "len(key) >= LONGEST_KEY"),
        tests.test_a_key_as_long_as_the_column_is_as_it_was_given,
    ),
    (
        "a key is cut too late",
        ("key_of", "len(key) > LONGEST_KEY", "len(key) > LONGEST_KEY + 1"),
        tests.test_a_key_as_long_as_the_column_is_as_it_was_given,
    ),
    (
        "defaults do not count",
        ("_chosen", "{**defaults, **bound}", "bound"),
        lambda: tests.test_calls_that_give_the_function_the_same_values_are_one((1, "sync"), {}),
    ),
    (
        "defaults hide what is given",
        ("_chosen", "{**defaults, **bound}", "{**bound, **defaults}"),
        lambda: tests.test_other_values_are_another_call((1, "purge"), {}),
    ),
    (
        "all arguments count",
        ("_chosen", "if chosen is None:", "if True:"),
        tests.test_arguments_that_are_not_named_do_not_count,
    ),
    (
        "free keyword arguments cannot be named",
        ("_chosen", "values.get(extra, {}) if extra else {}", "{}"),
        tests.test_a_name_may_be_among_free_keyword_arguments_and_may_be_missing,
    ),
]
BOUNDS = [
    (
        "a call may make the start earlier",
        (places, "_pushed", "return max(due, before)", "return due"),
        tests.test_a_call_never_makes_the_start_earlier,
    ),
    (
        "there is no ceiling",
        (places, "_pushed", "rule.debounce_max is not None", "False"),
        tests.test_no_call_pushes_the_start_beyond_the_ceiling,
    ),
    (
        "the ceiling is above the last start",
        (places, "_pushed", "holder.enqueued_at +", "before +"),
        tests.test_no_call_pushes_the_start_beyond_the_ceiling,
    ),
    (
        "the ceiling is the span",
        (places, "_pushed", "+ rule.debounce_max", "+ rule.debounce"),
        tests.test_each_call_pushes_the_start_and_the_last_text_counts,
    ),
    (
        "a call does not push",
        (places, "_pushed", "return max(due, before)", "return before"),
        tests.test_each_call_pushes_the_start_and_the_last_text_counts,
    ),
    (
        "the first call does not wait",
        (places.UniqueKeys, "_place", "self._clock() + rule.debounce", "self._clock()"),
        tests.test_a_debounced_job_waits,
    ),
    (
        "a ceiling of one span is refused",
        (keys, "_check_debounce", "most < span", "most <= span"),
        tests.test_a_ceiling_of_one_span_is_possible,
    ),
    (
        "a ceiling below the span is taken",
        (keys, "_check_debounce", "most < span", "False"),
        tests.test_a_ceiling_below_the_span_is_refused,
    ),
]


@pytest.mark.parametrize(
    ("owner", "change", "test"),
    [
        *(pytest.param(keys, change, test, id=name) for name, change, test in KEYS),
        *(pytest.param(one[0], one[1:], test, id=name) for name, one, test in BOUNDS),
    ],
)
def test_without_it_a_test_fails(monkeypatch, owner, change, test):
    test()  # it passes with it
    Job.objects.all().delete()
    rewrite(monkeypatch, owner, *change)

    with pytest.raises(NOTICED), transaction.atomic():
        test()
