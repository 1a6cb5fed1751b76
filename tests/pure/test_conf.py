"""Options are checked when they are given, and every message says what was expected."""

import dataclasses
import re
from ast import literal_eval
from datetime import timedelta
from itertools import product

import pytest
from django.apps import apps

from aftercommit import Exponential
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.checked import LARGEST_COUNT
from aftercommit.options.conf import BackendOptions
from aftercommit.options.schedules import ScheduleOptions
from aftercommit.options.secret_keys import SecretKey
from aftercommit.options.worker import WorkerConfig
from aftercommit.relay.brokers import check_options
from tests.docs.pages import ROOT

SECOND = timedelta(seconds=1)
WHERE = "TASKS['default']['OPTIONS']"


def options(**given):
    """Build the options of a backend."""
    return BackendOptions.from_mapping(given, where=WHERE)


def test_a_span_that_is_refused_is_said_as_people_say_it():
    with pytest.raises(ConfigurationError, match=r"timeout: .* got -5 s\.$"):
        options(timeout=-5 * SECOND)


@pytest.mark.parametrize("config", [BackendOptions, WorkerConfig])
def test_nothing_has_to_be_given(config):
    assert config.from_mapping({}, where=WHERE) == config()


@pytest.mark.parametrize("config", [BackendOptions(), WorkerConfig()])
def test_options_cannot_be_changed(config):
    name = dataclasses.fields(config)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, None)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("max_atempts", "max_attempts"),
        ("USING", "using"),
        ("poll_intervall", "poll_interval"),
        ("backof", "backoff"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_one(wrong, meant):
    with pytest.raises(ConfigurationError) as refused:
        options(**{wrong: 1})

    assert str(refused.value) == f"{WHERE}: unknown option {wrong!r}. Did you mean {meant!r}?"


@pytest.mark.parametrize("wrong", ["zzz", 7, None])
def test_an_option_like_no_other_is_refused_with_all_of_them(wrong):
    with pytest.raises(
        ConfigurationError, match=r"unknown option .* Known: age_priority, allowed"
    ):
        BackendOptions.from_mapping({wrong: 1}, where=WHERE)


@pytest.mark.parametrize("given", [None, [], "using", 5])
def test_options_are_a_dict(given):
    with pytest.raises(ConfigurationError, match=r"OPTIONS'\]: expected a dict, got"):
        BackendOptions.from_mapping(given, where=WHERE)


COUNT = "expected a whole number from 1 to 2,147,483,647"
FEW = "expected a whole number from 1 to 1,000"
SPAN = "expected a timedelta above zero"
FLAG = "expected True or False"
LIST = "expected a list or a tuple"
NAME = "expected a name"
EXCEPTIONS = "expected an exception class, its dotted path, or a tuple of them"


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("using", ["", 5, b"default"], NAME),
        ("max_attempts", [0, -1, True, 2.5, "3", None, LARGEST_COUNT + 1], COUNT),
        ("max_crashes", [0, False, None], COUNT),
        ("max_payload", [0, 1e6], COUNT),
        ("backoff", [5, "5s", [], [-SECOND], None, Exponential], "expected a timedelta, a list"),
        ("retry_on", [5, [5], [int], {"a": 1}, ValueError()], EXCEPTIONS),
        ("discard_on", [5, [None], object], EXCEPTIONS),
        ("atomic", [None, 1, "yes"], FLAG),
        ("timeout", [0, 30, timedelta(0), -SECOND], SPAN),
        ("age_priority", [0, 10, timedelta(0), -SECOND], SPAN),
        ("age_priority", [timedelta(microseconds=1), SECOND / 2], "expected at least 1 s"),
        ("lease", [30, None, timedelta(0), -SECOND], SPAN),
        ("heartbeat", [10, timedelta(0)], SPAN),
        ("poll_interval", [0, timedelta(0)], SPAN),
        ("session_locks", [None, 0], FLAG),
        ("task_modules", ["app.jobs", 5], LIST),
        ("task_packages", "app", LIST),
        ("allowed_functions", ["app.jobs"], LIST),
    ],
)
def test_a_value_that_makes_no_sense_is_shown_beside_what_was_expected(name, values, expected):
    for value in values:
        with pytest.raises(ConfigurationError) as refused:
            options(**{name: value})

        said = str(refused.value)
        assert said.startswith(f"{WHERE}: {name}: {expected}"), value
        assert "got " in said


def test_an_idle_worker_looks_more_often_if_nobody_wakes_it():
    assert options().polls_every(woken=True) == SECOND
    assert options().polls_every(woken=False) == SECOND / 5

    given = options(poll_interval=SECOND * 7)
    assert {given.polls_every(woken=woken) for woken in (False, True)} == {SECOND * 7}


@pytest.mark.parametrize(
    "name", ["task_modules", "skip_task_modules", "task_packages", "allowed_functions"]
)
def test_a_list_of_names_holds_names(name):
    with pytest.raises(ConfigurationError, match=rf"{name}\[1\]: expected a name, got 5"):
        options(**{name: ["app.jobs", 5]})


def test_every_option_can_be_given():
    given = {
        "using": "other",
        "max_attempts": LARGEST_COUNT,
        "backoff": [SECOND],
        "retry_on": (ConnectionError,),
        "discard_on": ("app.errors.Hopeless",),
        "atomic": True,
        "fuse": False,
        "timeout": SECOND,
        "keep_result": None,
        "keep_received": SECOND,
        "keep_audit": SECOND,
        "archive": "shop.archive.keep",
        "secret_keys": (SecretKey(bytes(32)),),
        "keep_log": "INFO",
        "statistics": False,
        "read_from": ["replica1", "replica2"],
        "replica_wait": SECOND,
        "max_crashes": 1,
        "max_payload": 1,
        "allowed_functions": ("shop.tasks",),
        "lease": 3 * SECOND,
        "heartbeat": SECOND,
        "poll_interval": SECOND,
        "session_locks": False,
        "task_modules": ("shop.jobs",),
        "skip_task_modules": ("legacy.tasks",),
        "task_packages": ("shop_lib",),
        "strict_json": True,
        "middleware": ("shop.middleware.trace",),
        "headers": ("shop.middleware.headers",),
        "relay": {"celery": {}},
        "relay_when": "always",
        "on_conflict": "raise",
        "queue_limits": {"mail": 3},
        "age_priority": SECOND,
        "queue_rates": {"mail": Rate(SECOND, 10)},
        "schedules": {"beat": ScheduleOptions(task="shop.tasks.beat", every=SECOND)},
    }

    built = options(**given)

    assert {field.name for field in dataclasses.fields(built)} == set(given)
    for name, value in given.items():
        assert getattr(built, name) == value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (ValueError, (ValueError,)),
        ("app.errors.Hopeless", ("app.errors.Hopeless",)),
        ([ValueError, "app.errors.Hopeless"], (ValueError, "app.errors.Hopeless")),
        ({KeyboardInterrupt}, (KeyboardInterrupt,)),
        ((), ()),
    ],
)
@pytest.mark.parametrize("name", ["retry_on", "discard_on"])
def test_one_exception_may_stand_alone_or_in_a_list(name, given, kept):
    assert getattr(options(**{name: given}), name) == kept


def test_none_is_what_is_not_given():
    built = options(
        retry_on=None, discard_on=None, task_modules=None, task_packages=None, timeout=None
    )

    assert built == BackendOptions()


def test_a_lease_holds_for_more_than_two_heartbeats():
    with pytest.raises(ConfigurationError) as refused:
        options(lease=2 * SECOND, heartbeat=SECOND)

    assert str(refused.value) == (
        f"{WHERE}: lease (0:00:02) must be longer than two heartbeats (0:00:01 each), "
        "or running jobs are given away."
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"processes": 0}, f"processes: {FEW}, got 0."),
        ({"threads": 0}, f"threads: {FEW}, got 0."),
        ({"threads": "4"}, f"threads: {FEW}, got '4'."),
        ({"max_jobs": 0}, f"max_jobs: {COUNT}, got 0."),
        ({"max_jobs_per_process": 0}, f"max_jobs_per_process: {COUNT}, got 0."),
        ({"max_memory": "512M"}, "max_memory: expected a whole number from 1 to "),
        ({"drain": 1}, f"drain: {FLAG}, got 1."),
        (
            {"grace": -SECOND},
            "grace: expected a timedelta, not negative, and at most 7 days, got ",
        ),
        ({"grace": 30}, "grace: expected a timedelta, not negative, and at most 7 days, got 30."),
        (
            {"watchdog": 30},
            "watchdog: expected a timedelta, not negative, and at most 7 days, got 30.",
        ),
        ({"thread": 4}, "unknown option 'thread'. Did you mean 'threads'?"),
    ],
)
def test_a_worker_is_told_nothing_impossible(given, expected):
    with pytest.raises(ConfigurationError) as refused:
        WorkerConfig.from_mapping(given, where="worker")

    assert str(refused.value).startswith(f"worker: {expected}")


def test_a_worker_may_stop_without_grace():
    assert WorkerConfig(grace=timedelta(0)).grace == timedelta(0)


def test_the_relay_takes_names_or_names_with_options():
    assert options(relay=["celery", "rq"]).libraries == {"celery": {}, "rq": {}}
    given = {"rq": {"url": "redis://queue/0"}}
    assert options(relay=given).libraries == given
    assert options().libraries == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"relay": "celery"}, "relay: expected a list or a tuple, got 'celery'"),
        ({"relay": {"rq": "redis://queue/0"}}, r"relay\['rq'\]: expected a dict of options"),
        ({"relay": ["celery", 5]}, r"relay\[1\]: expected a name"),
        (
            {"relay_when": "sometimes"},
            "relay_when: expected one of in_transaction, always, never",
        ),
    ],
)
def test_what_the_relay_cannot_take_is_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        options(**given)


ODD = [
    *(None, "", " ", "x", "5", "a b\n", "\0", b"x", 0, 1, -1, True, 1.5, float("nan"), 10**40),
    *([], (), {}, set(), ["x"], [""], [" "], [None], [1], [[]], {"a": 1}, {1: {}}, {"": {}}),
    *(timedelta(0), SECOND, -SECOND, timedelta.max, timedelta.min, object(), lambda: 1),
    *(
        ValueError,
        ValueError("x"),
        [ValueError],
        {"rq": None},
        {"rq": {}},
        int,
        Ellipsis,
        "x" * 999,
    ),
]


@pytest.mark.parametrize("cls", [BackendOptions, WorkerConfig])
def test_a_value_of_any_kind_is_taken_or_refused_with_a_short_sentence(cls):
    for field, value in product(dataclasses.fields(cls), ODD):
        try:
            cls.from_mapping({field.name: value}, where="here")
        except ConfigurationError as error:
            assert str(error).startswith("here: ")
            assert len(str(error)) < 500


@pytest.mark.parametrize("name", ["lease", "heartbeat", "poll_interval"])
def test_a_worker_waits_no_longer_than_the_system_can(name):
    with pytest.raises(ConfigurationError, match=f"{name}: expected .* at most 7 days"):
        options(**{name: timedelta(days=8)})


@pytest.mark.parametrize(
    "given",
    [
        *({"queues": one} for one in ("mail", ["x" * 101], ["a\nb"], [""], [1], {"mail": 1})),
        *({"backends": one} for one in ("default", [""], [None])),
        {"only": "x"},
        {"processes": 1001},
        {"threads": 10**6},
        {"relay": ["only"]},
    ],
)
def test_a_program_that_starts_a_worker_is_told_as_well(given):
    with pytest.raises(ConfigurationError):
        WorkerConfig.from_mapping(given, where="worker")


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ("mail", "expected a list of queues, got 'mail'"),
        (None, "expected a list of queues, got None"),
        (5, "expected a list of queues"),
        ({"mail": 1}, "expected a list of queues"),
        ([""], "a queue's name has 1 to 100"),
        (["x" * 101], "a queue's name has 1 to 100"),
        (["a\nb"], "a queue's name has 1 to 100"),
        ([" mail"], "no space at its ends"),
        ([None], "a queue's name has 1 to 100"),
    ],
)
def test_queues_of_a_backend_are_a_list_of_names(queues, said):
    with pytest.raises(ConfigurationError, match=said):
        _ = DatabaseBackend("default", {"QUEUES": queues}).config


@pytest.mark.parametrize("alias", ["", "x" * 101, "a\nb"])
def test_an_alias_fits_its_column(alias):
    with pytest.raises(ConfigurationError, match="an alias has 1 to 100"):
        _ = DatabaseBackend(alias, {}).config


@pytest.mark.parametrize("given", [None, [], "x", 5])
def test_options_that_are_no_dict_are_told_and_do_not_end_the_start(given, settings):
    settings.TASKS = {"default": {"BACKEND": "aftercommit.DatabaseBackend", "OPTIONS": given}}
    apps.get_app_config("aftercommit").ready()

    with pytest.raises(ConfigurationError, match="expected a dict"):
        _ = DatabaseBackend("default", settings.TASKS["default"]).config


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("rq", {"urll": "redis://"}, "unknown option 'urll'; it takes url"),
        ("celery", {"url": "x"}, "unknown option 'url'; it takes apps"),
        ("celery", {"apps": "site.celery.app"}, "expected a list or a tuple, got a str"),
        ("celery", {"apps": [object]}, "expected names"),
        ("dramatiq", {"url": "x"}, "unknown option 'url'; it takes none"),
        ("rq", {"url": 5}, "expected a str, got a int"),
        ("huey", {"instance": object()}, "expected a str, got a object"),
        ("tasks", {"backends": "mail"}, "expected a list or a tuple, got a str"),
        ("tasks", {"backends": None}, "expected a list or a tuple, got a NoneType"),
    ],
)
def test_options_of_a_library_are_known_ones(name, given, said):
    with pytest.raises(ConfigurationError, match=said):
        check_options(name, given)


def test_the_options_that_the_documentation_shows_are_taken():
    page = (ROOT / "docs/how-to/relay.md").read_text()
    shown = [literal_eval(one) for one in re.findall(r'"relay": (\{.*\}\})', page)]
    assert [next(iter(one)) for one in shown] == ["celery", "rq", "huey", "tasks"]
    for one in shown:
        for name, options in one.items():
            check_options(name, options)
