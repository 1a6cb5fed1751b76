"""What Django's own backends accept as an argument is accepted, as the same values."""

import json
import math
from collections import ChainMap, OrderedDict, UserDict, UserList, UserString, defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
from django.http import QueryDict
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from aftercommit._compat import tasks_base
from aftercommit.enqueue.payload import DEEPEST, dump_arguments, dump_result, load_arguments
from aftercommit.errors import PayloadError, PayloadTooLarge

LIMIT = 10_000
normalize_json = tasks_base.normalize_json


def dump(*args, limit=LIMIT, **kwargs):
    """Dump a call as a backend without ``strict_json`` does."""
    return dump_arguments(args, kwargs, task_path="app.send", limit=limit)


class Pair(Sequence):
    """A sequence that is no list."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return ("one", b"two")[index]


class Ages(Mapping):
    """A mapping that is no dict."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(["Ann"])

    def __getitem__(self, name):
        return 7


LIKE_DJANGO = [
    b"text",
    b"",
    "\N{SNOWMAN}".encode(),
    (1, b"two"),
    range(3),
    deque([1, (2,)]),
    UserList([b"x"]),
    bytearray(b"ab"),
    Pair(),
    Ages(),
    MappingProxyType({"a": (1,)}),
    UserDict({"a": UserDict({"b": b"c"})}),
    ChainMap({"a": 1}, {"b": 2}),
    OrderedDict(a=b"1"),
    defaultdict(list, a=[b"1"]),
    {b"key": 1},
    {"a": [{"b": [b"deep"]}]},
    QueryDict("a=1&b=2"),
]


@pytest.mark.parametrize("value", LIKE_DJANGO, ids=repr)
def test_a_value_comes_as_djangos_backends_hand_it_over(value):
    expected = normalize_json(value)

    assert load_arguments(dump(value, key=value)) == ([expected], {"key": expected})
    assert json.loads(dump_result(value, task_path="app.send", limit=LIMIT)) == expected


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text("ab\N{SNOWMAN}")
GIVEN = st.recursive(
    LEAVES | st.binary(max_size=3),
    lambda parts: (
        st.lists(parts).map(deque)
        | st.lists(parts).map(tuple)
        | st.dictionaries(st.text("ab"), parts).map(UserDict)
        | st.dictionaries(st.text("ab"), parts)
    ),
    max_leaves=10,
)


@given(value=GIVEN)
def test_whatever_django_accepts_is_accepted(value):
    try:
        expected = normalize_json(value)
    except ValueError:  # bytes that are not UTF-8
        with pytest.raises(PayloadError, match="bytes is not JSON"):
            dump(value)
        return

    assert load_arguments(dump(value)) == ([expected], {})


@pytest.mark.parametrize(
    ("key", "text"), [(1, "1"), (-7, "-7"), (True, "true"), (None, "null"), (1.5, "1.5")]
)
def test_a_key_becomes_the_text_that_json_has_for_it(key, text):
    assert load_arguments(dump({key: 0})) == ([{text: 0}], {})
    assert json.loads(json.dumps({key: 0})) == {text: 0}


@pytest.mark.parametrize(
    "keys", [(1, "1"), ("1", 1), (b"a", "a"), (None, "null"), (True, "true")]
)
def test_two_keys_of_one_text_are_refused(keys):
    with pytest.raises(PayloadError, match="is not a string, and would come back as one"):
        dump(dict.fromkeys(keys, 0))


@pytest.mark.parametrize("key", [(1,), math.nan, datetime(2026, 1, 1, tzinfo=UTC), frozenset()])
def test_a_key_that_json_does_not_have_is_refused(key):
    with pytest.raises(PayloadError, match=r"args\[0\]: the key .* is not a string"):
        dump({key: 0})


# ---- lazy values -------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["text", 3, -2.5, True, False, None, [1, (2,)], {"a": b"1"}])
def test_a_lazy_object_is_resolved_at_the_call(value):
    asked = []
    lazy = SimpleLazyObject(lambda: asked.append(1) or value)

    args, _kwargs = load_arguments(dump({"in": [lazy]}))

    assert args == [{"in": [normalize_json(value)]}]
    assert type(args[0]["in"][0]) is type(normalize_json(value))
    assert asked == [1]


def test_a_lazy_key_is_resolved():
    assert load_arguments(dump({SimpleLazyObject(lambda: "key"): 1})) == ([{"key": 1}], {})


class User:
    """What ``request.user`` stands for."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SimpleLazyObject(User), "User is not JSON"),
        (SimpleLazyObject(lambda: datetime(2026, 1, 1, tzinfo=UTC)), "datetime is not JSON"),
        (SimpleLazyObject(lambda: math.nan), "nan is not JSON"),
        (
            gettext_lazy("Yes"),
            r"a lazy translation is not JSON: pass str\(\)",
        ),
        (lazystr(3), "a lazy translation is not JSON"),
    ],
)
def test_a_lazy_object_that_is_no_json_is_refused_with_its_place(value, said):
    with pytest.raises(PayloadError, match=rf"app\.send: args\[1\]\['x'\]\[0\]: {said}"):
        dump(1, {"x": (value,)})


def test_the_error_of_a_lazy_object_reaches_the_caller():
    def fail():
        raise LookupError("nobody is logged in")

    with pytest.raises(LookupError, match="nobody is logged in"):
        dump(SimpleLazyObject(fail))


@pytest.mark.parametrize("value", ["text", 3, [1]])
def test_the_strict_rule_refuses_a_lazy_object_with_its_place(value):
    with pytest.raises(PayloadError, match=r"args\[0\]\['x'\]: \w+ is not JSON"):
        dump_arguments(
            [{"x": SimpleLazyObject(lambda: value)}], {}, task_path="a.b", limit=9, strict=True
        )


# ---- limits ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, [(-math.inf,)], UserDict(a=math.nan)])
def test_what_is_no_number_stays_an_error(value):
    with pytest.raises(PayloadError, match=r"(nan|inf) is not JSON"):
        dump(b"", value)


@pytest.mark.parametrize("value", [b"\xff", [b"\xc3("], {"a": b"\x80"}])
def test_bytes_that_are_no_text_are_refused(value):
    with pytest.raises(PayloadError, match="bytes is not JSON"):
        dump(value)


def test_what_nests_too_deep_or_in_itself_is_refused():
    circle = UserDict()
    circle["self"] = deque([circle])
    deep = ()
    for _level in range(DEEPEST):
        deep = UserList([deep])

    for value in (circle, deep, UserString("endless")):
        with pytest.raises(PayloadError, match=r"nests too deep|is not JSON"):
            dump(value)


def test_what_is_too_large_is_not_converted_to_its_end():
    bomb = b"x"
    for _level in range(60):
        bomb = (bomb, bomb)

    for value in (bomb, range(10**12), UserDict({"a": range(10**12)})):
        with pytest.raises(PayloadTooLarge):
            dump(b"", value)


@pytest.mark.parametrize("key", [1, None, True])
def test_the_name_of_an_argument_stays_a_string(key):
    with pytest.raises(PayloadError, match=r"kwargs: the key .* is not a string"):
        dump_arguments([b""], {key: 1}, task_path="app.send", limit=LIMIT)


@pytest.mark.parametrize("value", [b"", range(1), deque(), UserDict(), {1: 1}])
def test_the_strict_rule_is_an_option(value):
    with pytest.raises(PayloadError):
        dump_arguments([value], {}, task_path="app.send", limit=LIMIT, strict=True)
    with pytest.raises(PayloadError):
        dump_result(value, task_path="app.send", limit=LIMIT, strict=True)
