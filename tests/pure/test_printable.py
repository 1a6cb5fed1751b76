"""What is logged or shown of a text that somebody else has written."""

import logging
import traceback
from io import StringIO

import pytest

from aftercommit import log
from aftercommit.errors import ConfigurationError
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.printable import (
    Lines,
    ReadableLog,
    ReadableParts,
    lines,
    make_readable,
    one_line,
)
from aftercommit.printable import without_passwords as hidden
from aftercommit.worker.running.failure import run_error

FORGED = "shop.tasks.pay\n2026-01-01 ERROR all is lost"
SECRETS = ["hunter2", "p@ss/w:rd", "%2Fpw", "pw@"]
CONTROLS = [
    *map(chr, (*range(0x20), *range(0x7F, 0xA0))),
    *("\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\u200e", "\u200f", "\u061c"),
    *("\ufeff", "\ud800", "\udfff"),
]


class Unprintable:
    """An object whose text cannot be had."""

    def __str__(self) -> str:
        raise ValueError


@pytest.fixture
def logged():
    """Return a function that logs to a stream and returns what came out."""
    stream = StringIO()
    logger = logging.Logger("aftercommit.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    make_readable(logger)
    make_readable(logger)
    assert len(logger.filters) == 1

    def write(message, *parts):
        stream.truncate(stream.seek(0))
        logger.error(message, *parts)
        return stream.getvalue().removesuffix("\n")

    return write


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_a_part_of_a_log_line_neither_breaks_it_nor_turns_it(control, logged):
    text = logged("%s failed", f"a{control}b")

    assert control not in text
    assert text == f"a{ascii(control)[1:-1]}b failed"


@pytest.mark.parametrize(
    "part", ["grün", "日本語", "😀", "👩\u200d💻", "a b", "C:\\new", "שלום", ""]
)
def test_usual_text_stays_as_it_is(part, logged):
    assert one_line(part) == lines(part) == part
    assert logged("%s", part) == part


def test_parts_of_every_kind_can_be_logged(logged):
    assert (
        logged("%s %d %.1f %r %s", None, 3, 1.5, "x", ValueError("a\nb"))
        == "None 3 1.5 'x' a\\nb"
    )
    assert logged("%s", Unprintable()) == "(a Unprintable that cannot be printed)"
    assert logged("%s %s", "only one of two") is not None
    assert logged("50 % of all") == "50 % of all"


def test_lines_that_are_meant_stay_lines(logged):
    assert logged("%s", Lines("a\n\tb\x1b[31m")) == "a\n\tb\\x1b[31m"


def test_the_log_of_the_package_is_readable(caplog):
    log.lines.logger.warning("%s", FORGED)

    assert caplog.messages == [one_line(FORGED)]


def test_a_traceback_on_the_terminal_has_no_control_characters():
    try:
        raise ValueError("\x1b[2J\u202e redis://:hunter2@cache/0")
    except ValueError as error:
        record = logging.LogRecord("a", 40, "f", 1, "m", (), (type(error), error, None))

    assert ReadableLog("%(message)s").format(record) == (
        "m\n  ValueError: \\x1b[2J\\u202e redis://:***@cache/0"
    )


class Unspeakable(Exception):
    """An exception that raises a part of its own when it is printed."""

    def __str__(self) -> str:
        raise Unspeakable


class Leaving(Exception):
    """An exception that ends the process when it is printed."""

    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize("formatter", [logging.Formatter, ReadableLog])
def test_a_traceback_forges_no_line_of_the_log(formatter):
    stream = StringIO()
    logger = logging.Logger("aftercommit.test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    make_readable(logger)
    try:
        try:
            raise OSError("one\nERROR all is lost\r\x1b[2J\u2028ERROR redis://:hunter2@cache/0")
        except OSError as error:
            raise ValueError(FORGED) from error
    except ValueError:
        logger.exception("%s failed", "it")

    first, *others = stream.getvalue().removesuffix("\n").split("\n")
    assert first == "ERROR it failed"
    assert all(line.startswith("  ") for line in others)
    assert "  ERROR all is lost\\r\\x1b[2J\\u2028ERROR redis://:***@cache/0" in others
    assert others[0] == "  Traceback (most recent call last):"


def test_a_traceback_that_a_formatter_makes_itself_forges_no_line_either():
    error = ValueError(FORGED)
    record = logging.LogRecord("a", 40, "f", 1, "m", (), (type(error), error, None))

    assert ReadableLog("%(message)s").format(record).split("\n") == [
        "m",
        "  ValueError: shop.tasks.pay",
        "  2026-01-01 ERROR all is lost",
    ]


@pytest.mark.parametrize("error", [Unspeakable(), Leaving(), Unprintable(), None])
def test_an_exception_that_cannot_be_printed_can_be_logged(error):
    record = logging.LogRecord("a", 40, "f", 1, "m", (), (type(error), error, None))

    assert ReadableParts().filter(record)

    assert record.exc_text.startswith("  ")
    assert record.exc_info[1] is error  # which Sentry takes


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgres://u@x:secret@host/db", "postgres://u@x:***@host/db"),
        ("redis://:pa'ss@h", "redis://:***@h"),
        ('redis://:pa"ss@h', "redis://:***@h"),
        ("redis://:123/secret@h", "redis://:***@h"),
        ("amqp://u:p,q;r|s@h", "amqp://u:***@h"),
        ("amqp://u:p@h;amqp://v:q@k", "amqp://u:***@h;amqp://v:***@k"),
        ("'redis://:a@h', 'x@y'", "'redis://:***@h', 'x@y'"),
        ("'redis://:a@h','x@y'", "'redis://:***@h','x@y'"),
        ("{'redis://:a@h':'x@y'}", "{'redis://:***@h':'x@y'}"),
    ],
)
def test_a_password_ends_where_its_address_does(given, shown):
    assert hidden(given) == shown


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "address",
    [
        "redis://:{}@cache:6379/0",
        "postgres://me:{}@db/x?y=1",
        "amqp://me:{}@mq//",
        "'mysql://u:{}@h'",
    ],
)
def test_a_password_in_an_address_is_hidden(secret, address, logged):
    given = address.format(secret)

    assert hidden(f"at {given}, then") == f"at {address.format('***')}, then"
    assert logged("%s", given) == address.format("***")


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a:b",
        "http://127.0.0.1:8000/",
        "me@example.org",
        "redis://cache:6379/0",
        "redis://me@cache/0",
        "no address at all",
    ],
)
def test_what_has_no_password_is_not_changed(text):
    assert hidden(text) == text


@pytest.mark.parametrize("secret", ["hunter2", "p@ss/w:rd"])
@pytest.mark.parametrize(
    "options",
    [
        lambda url: url,
        lambda url: [url],
        lambda url: {"relay": url},
        lambda url: {"relay": {"rq": url}},
        lambda url: {"relay": {"rq": [url]}},
        lambda url: {"relay": [{"rq": url}]},
        lambda url: {"relay": {"rq": {("url", url)}}},
        lambda url: {"relay_when": url},
        lambda url: {"lease": url},
        lambda url: {"max_attempts": url},
        lambda url: {"atomic": url},
        lambda url: {"backoff": url},
        lambda url: {"retry_on": [3, url]},
        lambda url: {"task_modules": url},
        lambda url: {"allowed_functions": {url: 1}},
        lambda url: {"using": [url]},
        lambda url: {url: 1},
    ],
)
def test_an_error_in_the_settings_does_not_tell_a_password(options, secret):
    with pytest.raises(ConfigurationError) as error:
        BackendOptions.from_mapping(options(f"redis://:{secret}@cache/0"), where="TASKS")

    assert secret not in str(error.value)


def test_an_error_on_the_command_line_does_not_tell_a_password():
    with pytest.raises(ConfigurationError) as error:
        WorkerConfig.from_mapping({"relay": "redis://:hunter2@cache/0"}, where="worker")

    assert "hunter2" not in str(error.value)


def test_the_error_of_a_run_does_not_tell_a_password():
    error = run_error(ConnectionError("amqp://shop:hunter2@mq/ does not answer"))

    assert "amqp://shop:***@mq/ does not answer" in error.traceback


@pytest.mark.parametrize(
    "url", ["redis://:hunter2/1@cache:6379/0", "http://:hunter2@cache", 5, None, ""]
)
def test_an_address_that_cannot_be_read_is_not_told(url):
    rq = pytest.importorskip("aftercommit.relay.brokers.rq").RQ()
    rq.options = {"url": url}

    with pytest.raises(ConfigurationError) as error:
        rq.publish({"queue": "default"})

    assert "hunter2" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "address",
    [
        "http://h:80,http://k/?to=a@b",
        "http://u@h:80/x@y",
        "http://h?to=a@b:80&c@d",
        "https://host:8000/users/@me",
        "http://localhost:5000?to=a@b",
        "https://a.b/c@d",
    ],
)
def test_an_address_without_a_password_is_left_as_it_is(address):
    assert hidden(f"GET {address} failed") == f"GET {address} failed"
