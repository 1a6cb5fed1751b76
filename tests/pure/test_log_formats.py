"""The formats that a project's LOGGING may name."""

import json
import logging
import sys
from datetime import datetime

from aftercommit.log import JSONFormatter, WithTraceback

TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in b\nValueError: x\n'


def record(message="it failed", **fields):
    made = logging.makeLogRecord({"msg": message, "name": "aftercommit", "levelname": "ERROR"})
    vars(made).update(fields)
    return made


def test_a_record_is_one_line_of_json_with_its_fields():
    fields = {"job_id": "1", "duration": 0.4, "traceback": TRACEBACK}

    text = JSONFormatter().format(record("first\nsecond", **fields))

    assert "\n" not in text
    told = json.loads(text)
    assert datetime.fromisoformat(told.pop("time")).tzinfo is not None
    assert told == {
        "level": "ERROR",
        "logger": "aftercommit",
        "message": "first\nsecond",
        **fields,
    }


def test_the_traceback_of_an_exception_is_a_field_without_passwords():
    try:
        raise ValueError("redis://:hunter2@cache/0")
    except ValueError:
        made = record(exc_info=sys.exc_info())

    told = json.loads(JSONFormatter().format(made))["traceback"]
    assert told.startswith("Traceback (most recent call last):")
    assert told.endswith("ValueError: redis://:***@cache/0")


def test_what_json_does_not_have_is_text():
    class Unspeakable:
        def __str__(self):
            raise ValueError

    told = json.loads(JSONFormatter().format(record(moment=datetime.min, odd=Unspeakable())))

    assert told["moment"] == "0001-01-01 00:00:00"
    assert told["odd"] == "(a Unspeakable that cannot be printed)"


def test_a_field_does_not_overwrite_what_every_record_has():
    told = json.loads(JSONFormatter().format(record(level="none", logger="forged")))

    assert (told["level"], told["logger"]) == ("ERROR", "aftercommit")


def test_a_traceback_stands_below_its_line_and_forges_none():
    forged = record(traceback="ValueError: x\nERROR all is lost\x1b[2J\n")

    assert WithTraceback("%(levelname)s %(message)s").format(forged).split("\n") == [
        "ERROR it failed",
        "  ValueError: x",
        "  ERROR all is lost\\x1b[2J",
    ]


def test_a_line_without_a_traceback_is_that_line():
    assert WithTraceback("%(message)s").format(record()) == "it failed"
    assert WithTraceback("%(message)s").format(record(traceback=5)) == "it failed"
