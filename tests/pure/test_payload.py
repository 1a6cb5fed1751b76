"""Arguments and results on their way to JSON and back."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from uuid import UUID

import pytest
from django.utils.functional import Promise, lazystr
from django.utils.safestring import mark_safe
from hypothesis import example, given
from hypothesis import strategies as st

from aftercommit.enqueue.payload import (
    DEEPEST,
    LONGEST_INT,
    check_meta,
    dump_arguments,
    dump_result,
    load_arguments,
)
from aftercommit.errors import PayloadError, PayloadTooLarge

ENOUGH = 1024 * 1024

TEXTS = st.text(st.characters(exclude_categories=()))  # NUL and lone surrogates, too
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**LONGEST_INT) + 1, 2**LONGEST_INT - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSON = st.recursive(
    LEAVES,
    lambda parts: st.lists(parts) | st.dictionaries(TEXTS, parts),
    max_leaves=20,
)


def dump(*args, **kwargs):
    """Dump a call of a task named app.tasks.send."""
    return dump_arguments(args, kwargs, task_path="app.tasks.send", limit=ENOUGH, strict=True)


@given(args=st.lists(JSON), kwargs=st.dictionaries(TEXTS, JSON))
@example(args=["\ud83d\ude00"], kwargs={})  # two surrogates that JSON joins into one emoji
@example(args=["\ud800", "a\0b", -0.0, 1e308, 2**63], kwargs={"": None})
def test_what_is_accepted_comes_back_as_it_was(args, kwargs):
    try:
        text = dump_arguments(args, kwargs, task_path="a.b", limit=ENOUGH)
        assert text == dump_arguments(args, kwargs, task_path="a.b", limit=ENOUGH, strict=True)
    except PayloadError as refused:
        assert "surrogates" in str(refused)
        return

    came_back = load_arguments(text)

    assert repr(came_back) == repr((args, kwargs))  # repr tells 1 from 1.0 and True
    assert text.isascii()


@given(value=JSON.filter(lambda value: json.loads(json.dumps(value)) == value))
def test_what_survives_json_is_accepted(value):
    text = dump_result(value, task_path="a.b", limit=ENOUGH)

    assert repr(json.loads(text)) == repr(value)


def test_a_tuple_comes_back_as_a_list():
    assert load_arguments(dump((1, (2,)))) == ([[1, [2]]], {})


class Color(StrEnum):
    RED = "red"


class Size(IntEnum):
    LARGE = 3


class Plain(Enum):
    ONE = 1


@pytest.mark.parametrize(
    ("given", "back"), [(Color.RED, "red"), (Size.LARGE, 3), (mark_safe("<b>"), "<b>")]
)
def test_a_kind_of_string_or_number_comes_back_as_its_plain_equal(given, back):
    assert load_arguments(dump(given)) == ([back], {})


@pytest.mark.parametrize(
    "value",
    [
        UUID(int=7),
        datetime(2026, 1, 1, tzinfo=UTC),
        date(2026, 1, 1),
        timedelta(1),
        Decimal(1),
        {1, 2},
        frozenset(),
        b"bytes",
        bytearray(b"bytes"),
        Plain.ONE,
        lazystr("translated later"),
        object(),
        range(3),
        iter([]),
        1j,
        int,
    ],
)
def test_what_is_not_json_is_named_by_its_type(value):
    said = "a lazy translation" if isinstance(value, Promise) else type(value).__name__
    with pytest.raises(PayloadError, match=rf"args\[0\]: {said} is not JSON"):
        dump(value)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_float_that_json_does_not_know_is_refused(number):
    with pytest.raises(PayloadError, match=rf"kwargs\['rate'\]: {number} is not JSON"):
        dump(rate=number)


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ([0, 1, b""], {}, "args[2]"),
        ([], {"when": b""}, "kwargs['when']"),
        ([{"when": [0, {"at": b""}]}], {}, "args[0]['when'][1]['at']"),
        ([(1, (2, b""))], {}, "args[0][1][1]"),
        ([], {"a": {"it's": b""}}, "kwargs['a'][\"it's\"]"),
        ([[]] * 1000 + [[b""]], {}, "args[1000][0]"),
    ],
)
def test_the_error_says_where_the_value_is(args, kwargs, path):
    with pytest.raises(PayloadError) as refused:
        dump(*args, **kwargs)

    assert refused.value.path == path
    assert str(refused.value).startswith(
        f"app.tasks.send: {path}: bytes is not JSON (Unsupported type: <class 'bytes'>).\n"
    )


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1,), b"k"])
def test_a_key_that_is_not_a_string_would_come_back_as_one(key):
    with pytest.raises(PayloadError, match=r"args\[0\]: the key .* is not a string, and would"):
        dump({key: 1})


@pytest.mark.parametrize("key", [1, None, True])
def test_the_name_of_an_argument_is_a_string(key):
    """Python sees to it in a call, but not in the dicts of ``enqueue_many()``."""
    with pytest.raises(PayloadError, match=r"kwargs: the key .* is not a string, and would"):
        dump_arguments([], {key: 1}, task_path="app.tasks.send", limit=ENOUGH)


def test_surrogates_that_json_joins_are_refused_in_keys_too():
    with pytest.raises(PayloadError, match=r"the key .* holds surrogates that JSON joins"):
        dump({"\ud83d\ude00": 1})


def test_a_value_that_holds_itself_is_refused():
    circle = {}
    circle["self"] = [circle]

    with pytest.raises(PayloadError, match="nests too deep, or holds itself"):
        dump(circle)


def nested(levels):
    """Return lists within lists."""
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_has_a_limit_that_does_not_depend_on_the_caller():
    deepest = nested(DEEPEST - 1)

    assert load_arguments(dump(deepest)) == ([deepest], {})
    with pytest.raises(PayloadError, match="nests too deep"):
        dump(nested(DEEPEST))


def test_a_number_too_long_to_be_read_again_is_refused():
    with pytest.raises(PayloadError, match=r"args\[0\]: a number of 10,001 bits is too long"):
        dump(2**LONGEST_INT)


def test_the_limit_counts_the_bytes_of_the_text():
    text = dump("x" * 100)

    assert dump_arguments(["x" * 100], {}, task_path="a.b", limit=len(text)) == text
    with pytest.raises(PayloadTooLarge) as refused:
        dump_arguments(["x" * 100], {}, task_path="a.b", limit=len(text) - 1)

    assert (refused.value.size, refused.value.limit) == (len(text), len(text) - 1)
    assert str(refused.value).startswith(f"a.b: the arguments take {len(text)} bytes as JSON")


def test_a_small_value_with_a_huge_text_is_refused_before_it_is_written():
    bomb = []
    for _ in range(60):
        bomb = [bomb, bomb]

    with pytest.raises(PayloadTooLarge, match="counted no further"):
        dump(bomb)


@pytest.mark.parametrize("value", [None, "x", 0, [1, {"a": None}]])
def test_a_result_comes_back(value):
    assert json.loads(dump_result(value, task_path="a.b", limit=ENOUGH)) == value


def test_a_result_that_is_not_json_says_so():
    with pytest.raises(PayloadError, match=r"a\.b: return value\['at'\]: datetime is not JSON"):
        dump_result({"at": datetime(2026, 1, 1, tzinfo=UTC)}, task_path="a.b", limit=ENOUGH)


def test_a_result_has_the_limit_of_the_arguments():
    with pytest.raises(PayloadTooLarge, match="the return value take"):
        dump_result("x" * 100, task_path="a.b", limit=50)


def test_meta_data_is_checked_like_arguments():
    check_meta({"trace": "1"}, task_path="a.b", limit=ENOUGH)

    with pytest.raises(PayloadError, match=r"meta\['trace'\]: UUID is not JSON"):
        check_meta({"trace": UUID(int=1)}, task_path="a.b", limit=ENOUGH)
    with pytest.raises(PayloadTooLarge, match="the meta data take"):
        check_meta({"trace": "x" * 100}, task_path="a.b", limit=50)


@pytest.mark.parametrize("meta", [{"a": "\0"}, {"a": ["\ud800"]}, {"\0": 1}])
def test_meta_that_postgresql_cannot_keep_is_refused_everywhere(meta):
    with pytest.raises(PayloadError, match="NUL or a lone surrogate"):
        check_meta(meta, task_path="app.tasks.one", limit=1000)
