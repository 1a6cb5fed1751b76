"""Of a traceback the project's own part is told: where it begins, and where it was raised."""

import asyncio
import contextlib
import json
import re
from types import SimpleNamespace

import pytest

from aftercommit.worker.place import from_the_users_frame, place_of
from aftercommit.worker.running.failure import run_error
from aftercommit.worker.runs import Run

HERE = "tests/pure/test_place.py"


def raiser():
    raise ValueError("of the task")


def reader():
    return json.loads("no json")


async def sleeper():
    await asyncio.sleep(0)
    raise ValueError("of an async task")


@contextlib.contextmanager
def block():
    yield


@block()
def decorated():
    raise ValueError("of a decorated task")


def raised_in_worker(function, *args):
    """Return what a function raises when the worker calls it."""
    claim = SimpleNamespace(payload="{}", errors="[]")
    run = Run(claim, SimpleNamespace(batch=None), None, fresh_for=1, held_since=0, renewed_at=0)
    try:
        run.body(function, args, timeout=None)
    except Exception as error:
        return error.with_traceback(error.__traceback__.tb_next)  # without this test


@pytest.mark.parametrize(
    ("function", "first"),
    [
        (raiser, "raiser"),
        (reader, "reader"),
        (lambda: asyncio.run(sleeper()), "<lambda>"),
        (decorated, "decorated"),
    ],
    ids=["plain", "library", "async", "decorated"],
)
def test_a_traceback_begins_with_the_function_of_the_task(function, first):
    error = raised_in_worker(function)

    told = run_error(error).traceback

    files = re.findall(r'File "(.+)", line \d+, in (.+)', told)
    assert files[0] == (__file__, first)


def test_a_traceback_of_the_worker_alone_is_told_as_it_is():
    error = raised_in_worker(raiser, "too many")

    assert from_the_users_frame(error.__traceback__) is error.__traceback__
    assert from_the_users_frame(None) is None


def test_the_place_is_the_last_line_of_the_projects_own_code():
    line = reader.__code__.co_firstlineno + 1

    assert place_of(raised_in_worker(reader).__traceback__) == f"{HERE}:{line} in reader"


def test_without_own_code_it_is_the_last_line_at_all():
    part = raised_in_worker(reader).__traceback__
    while part.tb_frame.f_code is not json.loads.__code__:
        part = part.tb_next

    assert re.fullmatch(r"json/decoder\.py:\d+ in raw_decode", place_of(part))
    assert place_of(None) == ""


@pytest.mark.parametrize("name", [None, 5, "module"])
def test_a_module_may_be_named_by_anything(name):
    space = {"__name__": name}
    exec("def strange():\n    raise ValueError", space)  # noqa: S102 - of this test
    error = raised_in_worker(space["strange"])

    assert place_of(error.__traceback__).endswith(" in strange")
    assert run_error(error).traceback


def test_the_message_is_told_and_its_passwords_are_not():
    error = run_error(ValueError("at redis://:hunter2@cache/0"))

    assert (error.message, error.place) == ("at redis://:***@cache/0", "")


def test_a_long_message_is_cut():
    assert len(run_error(ValueError("x" * 10_000)).message) == 1001


def test_an_exception_that_cannot_be_printed_has_a_message_all_the_same():
    class Unspeakable(Exception):
        def __str__(self):
            raise SystemExit

    assert run_error(Unspeakable()).message.startswith("(the exception cannot be printed")
