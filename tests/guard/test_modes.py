"""What becomes of a finding: the modes, what is allowed, and the baseline."""

import json
import logging
import warnings

import pytest
from django.db import transaction

from aftercommit.errors import ConfigurationError, DispatchInTransaction
from aftercommit.guard import GuardWarning, allow_dispatch, baseline, race_found
from aftercommit.guard.checks import check_guard
from aftercommit.guard.conf import GuardOptions, configured, options_from

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_log_says_it_once_and_sends(watch, send, caplog):
    watch(mode="log")
    for _ in range(3):
        with transaction.atomic():
            assert send() == "sent"

    (record,) = caplog.records
    assert record.name == "aftercommit.guard"
    assert record.levelno == logging.WARNING
    assert "AC101 shop.tasks.send_receipt" in record.getMessage()
    assert record.finding.rule == "AC101"


def test_warn_warns_where_the_dispatch_stands(watch, send):
    watch(mode="warn")
    with warnings.catch_warnings(record=True) as caught, transaction.atomic():
        warnings.simplefilter("always")
        send()

    (warning,) = caught
    assert warning.category is GuardWarning
    assert warning.filename.endswith("conftest.py")
    assert send.sent


def test_off_says_nothing(watch, send, found):
    watch(mode="off")
    with transaction.atomic():
        send()

    assert found == []


def test_one_adapter_may_have_a_mode_of_its_own(watch, send, found):
    watch(mode="raise", adapters={"celery": "log"})
    with transaction.atomic():
        send()
        with pytest.raises(DispatchInTransaction):
            send(adapter="rq")

    assert [mode for _finding, mode in found] == ["log", "raise"]


@pytest.mark.parametrize(
    ("tests", "debug", "mode"),
    [(True, True, "raise"), (False, True, "warn"), (False, False, "log")],
)
def test_the_usual_mode_depends_on_where_it_runs(tests, debug, mode, monkeypatch, settings):
    monkeypatch.setattr("aftercommit.guard.conf.is_test_run", lambda: tests)
    settings.DEBUG = debug

    assert GuardOptions().mode_of("celery") == mode
    assert GuardOptions().mode_of("redis") == "off"


def test_a_receiver_that_raises_changes_nothing(watch, send):
    def broken(**_):
        raise ValueError("no")

    race_found.connect(broken)
    watch(mode="log")
    try:
        with transaction.atomic():
            assert send() == "sent"
    finally:
        race_found.disconnect(broken)


# Defer.


def test_what_is_deferred_is_sent_after_the_commit(watch, send):
    watch(mode="defer")
    with transaction.atomic():
        assert send() == "waits"
        assert send.sent == []

    assert send.sent == ["shop.tasks.send_receipt"]


def test_after_a_rollback_it_is_never_sent(watch, send):
    watch(mode="defer")
    with transaction.atomic(), pytest.raises(ValueError, match="no"), transaction.atomic():
        send()
        raise ValueError("no")

    assert send.sent == []


def test_it_waits_for_all_transactions(watch, send):
    watch(mode="defer", adapters={"transactions": "off"})
    with transaction.atomic():
        with transaction.atomic("other"):
            send()
        assert send.sent == []

    assert send.sent == ["shop.tasks.send_receipt"]


def test_one_that_rolls_back_is_enough_to_send_nothing(watch, send):
    watch(mode="defer", adapters={"transactions": "off"})
    with transaction.atomic():
        with transaction.atomic("other"):
            send()
        transaction.set_rollback(True)

    assert send.sent == []


def test_what_cannot_wait_is_logged_and_sent(watch, send, found):
    watch(mode="defer")
    with transaction.atomic():
        assert send(prepare=None) == "sent"

    assert [mode for _finding, mode in found] == ["log"]


# What is accepted.


def test_what_is_allowed_is_sent_without_a_word(watch, send, found):
    watch(mode="raise")

    @allow_dispatch("the task reads nothing of this transaction")
    def by_decorator():
        send()

    with transaction.atomic():
        with allow_dispatch("the task reads nothing of this transaction"):
            send()
        by_decorator()
        with pytest.raises(DispatchInTransaction):
            send()

    assert len(send.sent) == 2
    assert len(found) == 1


@pytest.mark.parametrize("reason", ["", "  ", None, 3])
def test_a_reason_must_be_given(reason):
    with pytest.raises(ConfigurationError, match="expected a reason"), allow_dispatch(reason):
        pass


def test_what_is_deferred_may_be_allowed(watch, send):
    watch(mode="defer")
    with transaction.atomic(), allow_dispatch("it reads nothing"):
        assert send() == "sent"


def test_paths_that_are_ignored(watch, send, found):
    watch(mode="raise", ignore=["tests/guard/"])
    with transaction.atomic():
        send()

    assert found == []


def test_a_baseline_accepts_what_was_there(watch, send, found, tmp_path):
    file = tmp_path / "guard-baseline.json"
    watch(mode="log")
    with transaction.atomic():
        send()
    assert baseline.write([one for one, _mode in found] * 2, file) == 1

    watch(mode="raise", baseline=str(file))
    with transaction.atomic():
        send()
        with pytest.raises(DispatchInTransaction):  # another rule at the same place
            send(adapter="http")
    assert json.loads(file.read_text())["findings"][0]["rule"] == "AC101"


# Settings.


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mod": "log"}, r"unknown option 'mod'. Did you mean 'mode'\?"),
        ({"mode": "loud"}, r"AFTERCOMMIT_GUARD\['mode'\]: expected one of 'raise'"),
        ({"strict": 1}, r"\['strict'\]: expected True or False, got 1"),
        ({"eager": "no"}, r"\['eager'\]: expected True or False"),
        ({"ignore": "tests"}, r"\['ignore'\]: expected a list of paths"),
        ({"baseline": 3}, r"\['baseline'\]: expected a path"),
        ({"adapters": ["celery"]}, r"\['adapters'\]: expected a dict"),
        ({"adapters": {"celry": "log"}}, r"unknown adapter 'celry'. Did you mean 'celery'\?"),
        ({"adapters": {"celery": "loud"}}, r"\['adapters'\]\['celery'\]: expected one of"),
        ({"adapters": {"http": "defer"}}, r"\['http'\]: 'defer' is not possible"),
    ],
)
def test_a_wrong_setting_is_said_by_the_check(given, said, settings):
    with pytest.raises(ConfigurationError, match=said):
        options_from(given)

    settings.AFTERCOMMIT_GUARD = given
    (error,) = check_guard()
    assert error.id == "aftercommit_guard.E001"
    assert "Fix: " in error.hint


def test_a_setting_that_is_no_dict(settings):
    settings.AFTERCOMMIT_GUARD = "raise"

    assert "expected a dict" in check_guard()[0].msg


def test_a_baseline_that_is_not_there_is_said(settings, tmp_path):
    settings.AFTERCOMMIT_GUARD = {"baseline": str(tmp_path / "none.json")}
    assert "cannot be read" in check_guard()[0].msg

    (tmp_path / "bad.json").write_text("[]")
    settings.AFTERCOMMIT_GUARD = {"baseline": tmp_path / "bad.json"}
    assert "is no baseline" in check_guard()[0].msg


def test_a_changed_setting_is_read_again(settings):
    settings.AFTERCOMMIT_GUARD = {"mode": "log"}
    assert configured().mode == "log"
    settings.AFTERCOMMIT_GUARD = {"mode": "warn"}

    assert configured().mode == "warn"
    assert check_guard() == []
