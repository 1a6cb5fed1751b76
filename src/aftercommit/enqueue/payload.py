"""Converts arguments and results to JSON and back, and checks each value."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from json import encoder as json_encoder
from json.scanner import make_scanner
from typing import Any

from django.utils.functional import Promise

from aftercommit.enqueue.normal import Normalizer, is_in_json
from aftercommit.enqueue.secret import is_secret
from aftercommit.errors import HoldsSecret, PayloadError, PayloadTooLarge
from aftercommit.stored import SECRETS, loaded_secrets, read_arguments
from aftercommit.values import Scheduled

_NOT_IN_JSONB = re.compile("[\0\ud800-\udfff]")
# What json.loads() does in the end, for text without whitespace around it.
_scan: Any = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
DEEPEST = 100  # levels of lists and dicts; far below the recursion limit of any JSON reader
MOST_USUAL = 2**63  # integers up to it are accepted without a further check
LONGEST_INT = 10_000  # bits, about 3,000 digits: Python reads no number beyond 4,300


def dump_arguments(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    task_path: str,
    limit: int,
    strict: bool = False,
) -> str:
    """Return the arguments of a call as one JSON text, in ASCII.

    ASCII, so that NUL and lone surrogates are escapes, which every database stores without
    a change. Tuples are read back as lists, and so on: see ``normal``. ``strict`` refuses what
    would not be equal after the way there and back, but for tuples.

    Raises ``PayloadError`` with the path of the value that is not JSON
    (``args[2]['when']``), ``HoldsSecret`` if that is a ``Secret``, and ``PayloadTooLarge`` above
    ``limit`` bytes.
    """
    args, kwargs = list(args), dict(kwargs)
    checked = _Checked(what="the arguments", task_path=task_path, limit=limit)
    plain = all(map(_is_plain, args)) and all(map(_is_plain, kwargs.values()))
    if not plain or not all(isinstance(name, str) and name.isascii() for name in kwargs):
        try:
            checked.accept(args, "args")
            checked.accept(kwargs, "kwargs")
        except PayloadError:
            if strict:
                raise
            normal = checked.normalizer()
            args = [normal.of(value) for value in args]
            kwargs = {name: normal.of(value) for name, value in kwargs.items()}
            checked.accept(args, "args")
            checked.accept(kwargs, "kwargs")
    return checked.dump({"args": args, "kwargs": kwargs})


def with_moment(payload: str, run_after: datetime | None) -> str:
    """Add the ``run_after`` of a call to its arguments: a retry changes that of the row."""
    if run_after is None:
        return payload
    return f'{payload[:-1]},"run_after":"{run_after.isoformat()}"}}'


def load_moment(payload: str) -> datetime | None:
    """Return the moment that ``with_moment`` has added, if it can be read."""
    if not str(payload).endswith('"}'):  # as all but a few
        return None
    with suppress(AttributeError, TypeError, ValueError, RecursionError):
        return datetime.fromisoformat(json.loads(payload).get("run_after"))
    return None


def with_schedule(payload: str, scheduled: Scheduled) -> str:
    """Add the schedule and the moment of a job to its arguments."""
    moment = scheduled.moment.astimezone(UTC).isoformat()
    return f'{payload[:-1]},"schedule":{json.dumps([scheduled.name, moment])}}}'


def load_schedule(payload: str) -> Scheduled | None:
    """Return the schedule that ``with_schedule`` has added, if it can be read."""
    if not str(payload).endswith('"]}'):  # as all but a few
        return None
    with suppress(AttributeError, TypeError, ValueError, RecursionError):
        name, moment = json.loads(payload).get("schedule")
        return Scheduled(str(name), datetime.fromisoformat(moment))
    return None


def load_arguments(payload: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments that ``dump_arguments`` has dumped; else raise ``Unreadable``."""
    try:
        loaded, end = _scan(payload, 0)
        args, kwargs = loaded["args"], loaded["kwargs"]
    except (StopIteration, LookupError, TypeError, ValueError, RecursionError):
        return read_arguments(payload)  # not written by dump_arguments()
    if type(args) is list and type(kwargs) is dict and end == len(payload):
        return args, kwargs
    return read_arguments(payload)


def load_call(payload: str) -> tuple[list[Any], dict[str, Any], Any]:
    """Return the arguments, and the encrypted ones that belong among them; None: there are none.

    See ``sealing``; raises ``Unreadable`` as ``load_arguments`` does.
    """
    try:
        loaded, end = _scan(payload, 0)
        args, kwargs, secrets = loaded["args"], loaded["kwargs"], loaded.get(SECRETS)
    except (StopIteration, LookupError, TypeError, ValueError, RecursionError, AttributeError):
        return (*read_arguments(payload), loaded_secrets(payload))
    if type(args) is list and type(kwargs) is dict and end == len(payload):
        return args, kwargs, secrets
    return (*read_arguments(payload), loaded_secrets(payload))


def dump_result(
    value: Any,
    *,
    task_path: str,
    limit: int,
    strict: bool = False,
    what: str = "the return value",
) -> str:
    """Return what a task returned as JSON text; raises as ``dump_arguments`` does."""
    checked = _Checked(what=what, task_path=task_path, limit=limit)
    where = what.removeprefix("the ")
    try:
        checked.accept(value, where)
    except PayloadError:
        if strict:
            raise
        value = checked.normalizer().of(value)
        checked.accept(value, where)
    return checked.dump(value)


def check_meta(meta: Mapping[str, Any], *, task_path: str, limit: int) -> None:
    """Refuse what cannot be stored with a job as JSON; raises as ``dump_arguments`` does.

    Stricter than for arguments: the column has the database's JSON type, so that it can be
    queried, and PostgreSQL's type has neither NUL nor lone surrogates.
    """
    checked = _Checked(what="the meta data", task_path=task_path, limit=limit)
    checked.accept(dict(meta), "meta")
    checked.dump(dict(meta))
    _check_queryable(dict(meta), "meta", task_path)


def _check_queryable(value: Any, path: str, task_path: str) -> None:
    texts = [value] if isinstance(value, str) else value if isinstance(value, dict) else ()
    if any(_NOT_IN_JSONB.search(text) for text in texts):
        problem = "it holds NUL or a lone surrogate, which PostgreSQL's JSON cannot"
        raise PayloadError(path=path, problem=problem, task_path=task_path)
    for name, part in _parts(value):
        _check_queryable(part, f"{path}[{name!r}]", task_path)


def _is_plain(value: Any) -> bool:
    """Return True for most values that survive JSON; False means that it must be checked."""
    kind = type(value)
    if kind is int:
        return bool(-MOST_USUAL <= value <= MOST_USUAL)
    return value is None or kind is bool or (kind is str and value.isascii())


def _encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return the C encoder that ``JSONEncoder.encode()`` builds for each text, if Python has it.

    0.33 instead of 1.06 µs for a small payload, of about 10 µs that a job of ``enqueue_many``
    takes: ``python -m timeit`` with ``{"args": [1], "kwargs": {}}``, Python 3.13.
    """
    encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
    try:
        made: Callable[[Any, int], Iterable[str]] = json_encoder.c_make_encoder(  # type: ignore[attr-defined]
            None,  # no check for cycles: they are refused by their depth
            encoder.default,
            json_encoder.encode_basestring_ascii,
            None,
            encoder.key_separator,
            encoder.item_separator,
            encoder.sort_keys,
            encoder.skipkeys,
            encoder.allow_nan,
        )
    except (AttributeError, TypeError):  # another version or another implementation of Python
        return lambda value, _level: encoder.encode(value)
    return made


_chunks = _encoder()


class _Checked:
    """Checks each value as often as it would appear in the text, and stops at the limit."""

    def __init__(self, *, what: str, task_path: str, limit: int) -> None:
        self._what = what
        self._task_path = task_path
        self._limit = limit
        self._seen = 0  # number of values; each needs at least one byte

    def normalizer(self) -> Normalizer:
        """Return what converts the values that were refused; then they are counted anew."""
        self._seen = 0
        return Normalizer(most=self._limit, deepest=DEEPEST)

    def accept(self, value: Any, path: str, depth: int = 0) -> None:
        """Raise unless ``value`` and all values in it survive JSON."""
        self._seen += 1
        if self._seen > self._limit:
            # A list that contains one list twice, and so on for 30 levels, has 10**9 values.
            raise self._too_large(self._seen, f"{self._what}, counted no further,")
        if problem := _problem(value, depth):
            if is_secret(value):
                raise HoldsSecret(path=path, task_path=self._task_path)
            raise PayloadError(path=path, problem=problem, task_path=self._task_path)
        for name, part in _parts(value):
            self.accept(part, f"{path}[{name!r}]", depth + 1)

    def dump(self, value: Any) -> str:
        """Return an accepted value as JSON text."""
        text = "".join(_chunks(value, 0))
        if len(text) > self._limit:
            raise self._too_large(len(text), self._what)
        return text

    def _too_large(self, size: int, what: str) -> PayloadTooLarge:
        return PayloadTooLarge(what=what, size=size, limit=self._limit, task_path=self._task_path)


def _problem(value: Any, depth: int) -> str:
    """Return why a value does not survive JSON; the values in it are not checked here."""
    problem = ""
    match value:
        case _ if not is_in_json(value):
            problem = _unsupported(value)
        case str() if not _survives(value):
            problem = "it holds surrogates that JSON joins into another character"
        case int() if value.bit_length() > LONGEST_INT:
            problem = f"a number of {value.bit_length():,} bits is too long to be read again"
        case float() if not math.isfinite(value):
            problem = f"{value} is not JSON"
        case list() | tuple() | dict() if depth > DEEPEST:
            problem = "it nests too deep, or holds itself"
        case dict():
            problem = next((text for key in value if (text := _key_problem(key))), "")
    return problem


def _unsupported(value: object) -> str:
    if issubclass(type(value), Promise):
        return "a lazy translation is not JSON: pass str() of it"
    if (why := getattr(type(value), "is_no_json_because", None)) is not None:
        return str(why)
    kind = getattr(value, "__class__", type(value))  # of what a proxy stands for
    return f"{kind.__name__} is not JSON (Unsupported type: {kind})"  # also Django's words


def _key_problem(key: object) -> str:
    if not issubclass(type(key), str):
        return f"the key {key!r} is not a string, and would come back as one"
    return "" if _survives(str(key)) else f"the key {key!r} holds surrogates that JSON joins"


def _survives(text: str) -> bool:
    return text.isascii() or json.loads(json.dumps(text)) == text


def _parts(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, (list, tuple)) else ()
