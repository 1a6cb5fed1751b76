"""The system checks: one test for each id, and silence where nothing is wrong."""

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pymysql
import pytest
from django.core.checks import registry, run_checks
from django.db import connection, connections
from django.db.utils import ConnectionHandler

from aftercommit import task
from aftercommit._compat import task_backends
from aftercommit.enqueue.registry import _declared
from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.neglected import Neglect
from aftercommit.windows import checks
from aftercommit.windows.checks import CHECKS, TAG, project, relay, servers
from aftercommit.windows.checks.databases import settings_of
from aftercommit.windows.checks.servers import answers_of, check_servers
from tests.databases import ALIASES
from tests.django.conftest import DUMMY, ours

MINUTE = timedelta(minutes=1)
SOURCE = Path(checks.__file__).parents[2]
READ_COMMITTED, REPEATABLE_READ, SERIALIZABLE = 2, 3, 4  # psycopg's numbers


def ids(messages):
    """Return the ids of messages, each once."""
    return {message.id for message in messages}


def only(messages):
    """Return the one message there is; it must say what to do."""
    (message,) = messages
    assert message.hint
    return message


def found():
    """Run our checks as Django does for every command."""
    return ours_among(run_checks())


def found_in(*databases):
    """Run our checks as Django does for ``check --database``."""
    return ours_among(run_checks(databases=databases))


def ours_among(messages):
    """Return the messages that are not Django's own."""
    return [message for message in messages if message.id.startswith("aftercommit.")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"options": {"queue_limits": {"mail": 0}}},
            r"OPTIONS'\]: queue_limits\['mail'\]: expected",
        ),
        ({"options": {"age_priority": 10}}, "age_priority: expected a timedelta"),
        ({"options": {"queue_rates": {"mail": "often"}}}, "queue_rates"),
        ({"options": {"colour": 1}}, "unknown option 'colour'"),
        ({"options": {"relay": 3}}, "relay: expected"),
        ({"queues": "mail"}, r"QUEUES'\]: expected a list"),
        ({"queues": [" mail"]}, "no space at its ends"),
    ],
    ids=str,
)
def test_e015_a_mistake_in_tasks_is_a_sentence_and_no_traceback(backends, given, said):
    queues, options = given.get("queues", []), given.get("options", {})
    backends(default={**ours(), "QUEUES": queues, "OPTIONS": options}, other=ours())

    message = only(ours_among(run_checks(include_deployment_checks=True)))

    assert message.id == "aftercommit.E015"
    assert re.search(said, message.msg)
    assert message.msg.startswith("TASKS['default']")
    assert found_in("default") == [message]
    with pytest.raises(ConfigurationError, match=said):
        task(backend="default")(only)


def database(engine, **given):
    """Return a database with these settings, to which nobody has connected yet."""
    if engine == "mysql":
        pymysql.install_as_MySQLdb()
    handler = ConnectionHandler(
        {"default": {"ENGINE": f"django.db.backends.{engine}", "NAME": "/jobs", **given}}
    )
    return handler["default"]


def sqlite(**given):
    """Return an SQLite database that is set up as it should be, but for what is given."""
    return database("sqlite3", **{"OPTIONS": {"transaction_mode": "IMMEDIATE"}, **given})


# The list of checks.


def test_every_check_is_listed_and_every_listed_check_exists():
    source = "".join(path.read_text() for path in SOURCE.rglob("*.py"))
    raised = set(re.findall(r'id="(aftercommit\.[EW]\d{3})"', source))

    assert raised == set(CHECKS)
    assert list(CHECKS) == sorted(CHECKS)


def test_every_check_has_a_test_named_after_it():
    here = Path(__file__)
    others = (
        "test_tables.py",
        "test_undeclared.py",
        "test_unserved.py",
        "test_schedules_command.py",
        "../worker/test_versions.py",
        "../worker/test_secret_keys.py",
    )
    text = here.read_text() + "".join((here.parent / one).read_text() for one in others)
    named = set(re.findall(r"^def test_([ew]\d{3})_", text, re.MULTILINE))

    assert {f"aftercommit.{name.upper()}" for name in named} == set(CHECKS)


def test_our_own_settings_are_fine_and_no_database_is_asked():
    assert found() == []  # without the mark django_db, a query would be an error


@pytest.mark.django_db(databases=ALIASES)
def test_our_own_databases_are_fine():
    assert ids(found_in(*ALIASES)) <= {"aftercommit.W002"}  # an old MariaDB


def test_asking_for_our_tag_asks_no_database():
    assert ours_among(run_checks(tags=[TAG])) == []


def test_without_a_backend_of_ours_nothing_is_looked_at(backends, settings):
    backends(default=DUMMY)
    settings.USE_TZ = False

    assert found() == []


@pytest.mark.django_db(databases=ALIASES)
def test_only_databases_with_jobs_are_asked(backends, django_assert_num_queries):
    backends(default=ours(using="other"))

    with django_assert_num_queries(0, connection=connections["default"]):
        check_servers(databases=ALIASES)


# Errors.


def test_e001_without_django_tasks_or_its_backport_every_command_says_so():
    code = (
        "import sys; sys.modules['django.tasks'] = sys.modules['django_tasks'] = None\n"
        "import django; from django.conf import settings; from tests import settings as ours\n"
        "ours.INSTALLED_APPS = [one for one in ours.INSTALLED_APPS if one != 'django_tasks']\n"
        "ours.ROOT_URLCONF = 'django.contrib.auth.urls'  # others import what needs tasks\n"
        "from django.core.management import call_command; django.setup(); call_command('check')"
    )

    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert "(aftercommit.E001) This Django has no django.tasks" in child.stderr
    assert "HINT: pip install 'aftercommit[backport]'" in child.stderr
    assert "System check identified 1 issue" in child.stderr


RELAYS = """
import django, sys
from tests import settings as ours
ours.TASKS["default"].setdefault("OPTIONS", {})["relay"] = %s
from django.core.management import execute_from_command_line
%s
"""
BY_MANAGE_PY = "execute_from_command_line(['manage.py', 'check'])"


def of_relay(names, then):
    """Return what a process says whose settings have ``relay``."""
    return subprocess.run(
        [sys.executable, "-c", RELAYS % (names, then)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["celry"], "OPTIONS['relay'] names 'celry'. Did you mean 'celery'? Known are celery, "),
        ({"rq": {"adress": "x"}}, "OPTIONS['relay']['rq']: unknown option 'adress'"),
    ],
    ids=str,
)
def test_e015_a_mistake_in_relay_is_a_sentence_of_each_command(given, said):
    child = of_relay(given, BY_MANAGE_PY)

    assert f"(aftercommit.E015) {said}" in child.stderr
    assert "Traceback" not in child.stderr
    assert child.returncode == 1


def test_a_web_process_does_not_start_with_a_mistake_in_relay():
    child = of_relay(["celry"], "django.setup()")

    assert "ConfigurationError: OPTIONS['relay'] names 'celry'" in child.stderr
    assert child.returncode == 1


def test_e002_a_database_without_a_store_cannot_hold_jobs():
    unknown = database("dummy")

    message = only(settings_of(unknown))

    assert message.id == "aftercommit.E002"
    assert "Database 'default' (django.db.backends.dummy) holds jobs" in message.msg
    assert list(answers_of(unknown)) == []


OLDEST = {"postgresql": (15, 0), "mysql": (10, 6, 0), "sqlite": (3, 37, 0)}
TOO_OLD = {"postgresql": (14, 99), "mysql": (10, 5, 99), "sqlite": (3, 36, 99)}


@pytest.mark.django_db
def test_e003_an_old_server_is_refused(vendor, monkeypatch):
    monkeypatch.setattr(connection, "get_database_version", lambda: TOO_OLD[vendor])

    message = only(answers_of(connection))

    assert message.id == "aftercommit.E003"
    assert re.search(r"is \w+ [\d.]+99; aftercommit needs \w+ [\d.]+ or newer", message.msg)


@pytest.mark.django_db
def test_the_oldest_supported_server_is_accepted(vendor, monkeypatch):
    monkeypatch.setattr(connection, "get_database_version", lambda: OLDEST[vendor])

    assert ids(answers_of(connection)) <= {"aftercommit.W002"}


@pytest.mark.parametrize(("version", "good"), [((8, 0, 99), False), ((8, 4, 0), True)])
def test_mysql_and_mariadb_are_counted_apart(version, good, monkeypatch):
    mysql = database("mysql", OPTIONS={"isolation_level": "read committed"})
    monkeypatch.setitem(vars(mysql), "mysql_is_mariadb", False)
    monkeypatch.setattr(mysql, "get_database_version", lambda: version)

    assert ids(answers_of(mysql)) == (set() if good else {"aftercommit.E003"})


@pytest.mark.parametrize(
    ("engine", "level", "said"),
    [
        ("postgresql", REPEATABLE_READ, "REPEATABLE READ"),
        ("postgresql", SERIALIZABLE, "SERIALIZABLE"),
        ("mysql", "repeatable read", "REPEATABLE READ"),
        ("mysql", "SERIALIZABLE", "SERIALIZABLE"),
        ("mysql", "read uncommitted", "READ UNCOMMITTED"),
        ("mysql", None, "of the server, which is REPEATABLE READ unless"),
    ],
)
def test_e004_a_stricter_isolation_in_the_settings_is_refused(engine, level, said):
    message = only(settings_of(database(engine, OPTIONS={"isolation_level": level})))

    assert message.id == "aftercommit.E004"
    assert f"isolation level {said}" in message.msg


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("postgresql", {}),
        ("postgresql", {"isolation_level": READ_COMMITTED}),
        ("mysql", {}),
        ("mysql", {"isolation_level": "READ committed"}),
    ],
)
def test_djangos_default_isolation_is_accepted(engine, options):
    assert list(settings_of(database(engine, OPTIONS=options))) == []


STRICTER = {
    "postgresql": "SET default_transaction_isolation TO 'repeatable read'",
    "mysql": "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
}
AS_BEFORE = {
    "postgresql": "RESET default_transaction_isolation",
    "mysql": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
}


@pytest.mark.django_db
def test_the_isolation_that_the_session_really_has_counts(vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite knows one level only")
    with connection.cursor() as cursor:
        cursor.execute(STRICTER[vendor])
        messages = found_in("default")
        cursor.execute(AS_BEFORE[vendor])

    (message,) = [one for one in messages if one.id == "aftercommit.E004"]
    assert "isolation level REPEATABLE READ" in message.msg


@pytest.mark.parametrize(
    "options", [{}, {"transaction_mode": None}, {"transaction_mode": "deferred"}]
)
def test_e005_sqlite_takes_the_write_lock_when_a_transaction_begins(options):
    message = only(settings_of(sqlite(OPTIONS=options)))

    assert message.id == "aftercommit.E005"
    assert "begin as DEFERRED" in message.msg


@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_sqlite_with_immediate_transactions_is_accepted(mode):
    assert list(settings_of(sqlite(OPTIONS={"transaction_mode": mode}))) == []


def test_e006_moments_have_time_zones(settings):
    settings.USE_TZ = False

    assert only(found()).id == "aftercommit.E006"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/London"])
@pytest.mark.parametrize("engine", ["sqlite3", "mysql"])
def test_e007_moments_are_stored_in_utc(engine, zone):
    options = {"transaction_mode": "IMMEDIATE"} if engine == "sqlite3" else {}

    message = only(settings_of(database(engine, TIME_ZONE=zone, OPTIONS=options)))

    assert message.id == "aftercommit.E007"
    assert zone in message.msg


def test_a_time_zone_does_no_harm_where_moments_are_stored():
    assert list(settings_of(database("postgresql", TIME_ZONE="Europe/Berlin"))) == []
    assert list(settings_of(sqlite(TIME_ZONE="UTC"))) == []


def test_e008_psycopg_2_is_refused(monkeypatch):
    postgres = database("postgresql")
    monkeypatch.setattr(postgres, "Database", ModuleType("psycopg2"))

    message = only(settings_of(postgres))

    assert message.id == "aftercommit.E008"
    assert "psycopg 3" in message.msg


def test_e009_using_names_a_database_that_exists(backends):
    backends(default=ours(using="elsewhere"))

    message = only(found())

    assert message.id == "aftercommit.E009"
    assert "TASKS['default'] keeps its jobs in database 'elsewhere'" in message.msg
    assert "default, other" in message.hint


def test_e009_an_address_in_place_of_an_alias_does_not_tell_its_password(backends):
    backends(default=ours(using="postgres://shop:hunter2@db/shop"))

    message = only(found())

    assert message.id == "aftercommit.E009"
    assert "'postgres://shop:***@db/shop'" in message.msg
    assert "hunter2" not in str(message)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("task_modules", ["does.not.exist"], "['task_modules'] names 'does.not.exist', which"),
        ("retry_on", "does.not.Exist", "retry_on: 'does.not.Exist' cannot be imported"),
        ("discard_on", ["builtins.len"], "discard_on: 'builtins.len' is not an exception class"),
    ],
)
def test_e010_what_an_option_names_can_be_imported(backends, option, value, said):
    backends(default=ours(**{option: value}))

    message = only(found())

    assert message.id == "aftercommit.E010"
    assert message.msg.startswith("TASKS['default']['OPTIONS']")
    assert said in message.msg


def plain():
    """Do nothing."""


def test_what_a_task_names_can_be_imported_too():
    declared = task(retry_on="does.not.Exist")(plain)

    messages = found()
    del _declared[declared.module_path]

    assert ids(messages) == {"aftercommit.E010"}
    assert f"@task of {__name__}.plain: retry_on: 'does.not.Exist'" in only(messages).msg


def test_e011_the_app_is_installed(settings):
    backend = task_backends["default"]
    assert list(backend.check()) == []

    settings.INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]

    message = only(backend.check())
    assert message.id == "aftercommit.E011"
    assert "TASKS['default']" in message.msg


class KeepOut:
    """Allows our tables in one database only."""

    def allow_migrate(self, db, app_label, **_hints):
        return db == "default" if app_label == "aftercommit" else None


def test_e012_the_router_lets_our_tables_in(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.KeepOut"]

    message = only(found())

    assert message.id == "aftercommit.E012"
    assert "TASKS['other'] keeps its jobs in database 'other'" in message.msg


# Warnings.


def test_w001_the_backport_is_installed_as_an_app(settings, monkeypatch):
    class OfTheBackport:
        __module__ = "django_tasks.backends.base"

    monkeypatch.setattr(project, "BaseTaskBackend", OfTheBackport)
    settings.INSTALLED_APPS = [one for one in settings.INSTALLED_APPS if one != "django_tasks"]

    assert only(found()).id == "aftercommit.W001"


def test_w002_an_old_mariadb_sorts_at_each_claim(monkeypatch):
    mariadb = database("mysql", OPTIONS={"isolation_level": "read committed"})
    monkeypatch.setitem(vars(mariadb), "mysql_is_mariadb", True)

    monkeypatch.setattr(mariadb, "get_database_version", lambda: (10, 7, 8))
    assert only(answers_of(mariadb)).id == "aftercommit.W002"

    monkeypatch.setattr(mariadb, "get_database_version", lambda: (10, 8, 1))
    assert list(answers_of(mariadb)) == []


@pytest.mark.parametrize("name", [":memory:", "file:mine?mode=memory&cache=shared"])
def test_w003_no_worker_sees_a_database_in_memory(name):
    assert only(settings_of(sqlite(NAME=name))).id == "aftercommit.W003"


def test_djangos_test_database_may_be_in_memory():
    name = "file:memorydb_default?mode=memory&cache=shared"

    assert list(settings_of(sqlite(NAME=name))) == []


@pytest.mark.django_db
def test_w004_sqlite_without_wal_lets_readers_and_writers_wait(tmp_path):
    file = sqlite(NAME=tmp_path / "jobs.sqlite3")

    message = only(answers_of(file))
    file.close()

    assert message.id == "aftercommit.W004"
    assert "journal mode 'delete'" in message.msg


@pytest.mark.django_db
def test_a_database_in_memory_needs_no_journal():
    memory = sqlite(NAME=":memory:")

    assert list(answers_of(memory)) == []


@pytest.mark.parametrize("pool", [True, {"min_size": 2}, {"max_size": 8}, {"min_size": 8}])
def test_w005_a_pool_holds_what_a_worker_needs(pool):
    message = only(settings_of(database("postgresql", OPTIONS={"pool": pool})))

    assert message.id == "aftercommit.W005"
    assert "A worker process needs 9" in message.msg


@pytest.mark.parametrize("pool", [False, None, {"max_size": 9}, {"min_size": 9}])
def test_a_large_pool_or_none_is_accepted(pool):
    assert list(settings_of(database("postgresql", OPTIONS={"pool": pool}))) == []


def test_w006_backends_of_one_database_agree_on_what_a_worker_has_once(backends):
    backends(
        default=ours(), same=ours(max_attempts=9), slow=ours(max_crashes=9, poll_interval=MINUTE)
    )

    messages = found()

    assert ids(messages) == {"aftercommit.W006"}
    assert "TASKS['default'] and TASKS['slow']" in messages[0].msg
    assert "differ in poll_interval, max_crashes" in messages[0].msg


def test_e014_a_queue_has_one_limit(backends):
    backends(default=ours(queue_limits={"mail": 3}), slow=ours(queue_limits={"mail": 4}))

    (message,) = found()

    assert message.id == "aftercommit.E014"
    assert "limit its queue 'mail' to 3 and to 4" in message.msg


def test_backends_may_have_the_same_limit_or_one_of_them_or_each_in_its_database(backends):
    backends(
        default=ours(queue_limits={"mail": 3, "reports": 1}),
        slow=ours(queue_limits={"mail": 3}),
        other=ours(queue_limits={"mail": 9}, using="other"),
    )

    assert found() == []


def test_e014_a_queue_has_one_rate(backends):
    backends(default=ours(queue_rates={"mail": "60/m"}), slow=ours(queue_rates={"mail": "1/m"}))

    (message,) = found()

    assert message.id == "aftercommit.E014"
    assert "one start in 0:00:01 with a burst of 1 and to one start in 0:01:00" in message.msg
    assert "queue_rates" in message.hint


def test_w016_a_queue_with_a_rate_exists(backends):
    backends(default=ours(queues=["mail"], queue_rates={"mial": "60/m", "mail": "60/m"}))

    (message,) = found()

    assert message.id == "aftercommit.W016"
    assert "['queue_rates'] names 'mial'" in message.msg


def test_w016_a_queue_with_a_limit_exists(backends):
    given = {"queues": ["mail"], "relay": ["celery"]}
    backends(default=ours(**given, queue_limits={"mial": 3, "mail": 4, "relay.celery": 2}))

    (message,) = found()

    assert message.id == "aftercommit.W016"
    assert "'mial'" in message.msg
    assert "mail, relay.celery" in message.hint


def test_w020_a_replica_is_read_by_our_router_which_is_the_first(backends, settings):
    backends(default=ours(read_from="other"))
    assert "and no router obeys it" in only(found()).msg

    settings.DATABASE_ROUTERS = [
        "tests.app.routing.EffectsElsewhere",
        "aftercommit.ReplicaRouter",
    ]
    assert "another router is asked first" in only(found()).msg

    settings.DATABASE_ROUTERS = [
        "aftercommit.ReplicaRouter",
        "tests.app.routing.EffectsElsewhere",
    ]
    assert found() == []

    backends(default=ours(read_from=["other", "nowhere"]))
    message = only(found())
    assert message.id == "aftercommit.W020"
    assert "the database alias 'nowhere', which does not exist" in message.msg


def test_backends_of_two_databases_may_differ(backends):
    backends(default=ours(), other=ours(using="other", max_crashes=9))

    assert found() == []


@pytest.mark.parametrize(
    ("library", "options", "setting"),
    [
        ("rq", {"url": "redis://127.0.0.1:6379/0"}, "RQ_QUEUES"),
        ("huey", {"instance": "tests.brokers.yard.huey"}, "HUEY"),
    ],
)
def test_w007_the_relay_knows_where_messages_go(
    backends, settings, monkeypatch, library, options, setting
):
    backends(default=ours(relay=[library]))
    monkeypatch.setattr(broker_for(library), "options", {})
    (message,) = found()
    assert (message.id, setting in message.hint) == ("aftercommit.W007", True)

    setattr(settings, setting, {})
    assert found() == []
    delattr(settings, setting)
    monkeypatch.setattr(broker_for(library), "options", options)
    assert found() == []


def test_w007_the_backends_to_wrap_exist(backends, monkeypatch):
    backends(default=ours(relay=["tasks"]))
    broker = broker_for("tasks")
    monkeypatch.setattr(broker, "others", lambda: ["mail"])
    monkeypatch.setattr(broker, "options", {"backends": ["mial"]})
    (message,) = found()
    assert message.id == "aftercommit.W007"
    assert "'mial'" in message.msg

    monkeypatch.setattr(broker, "options", {})
    assert found() == []


@pytest.mark.parametrize(
    "other",
    [{"relay": {"rq": {"url": "redis://b"}}}, {"relay": ["rq"], "relay_when": "always"}],
    ids=["options", "relay_when"],
)
def test_w009_backends_relay_one_library_in_the_same_way(backends, settings, other):
    settings.RQ_QUEUES = {}
    backends(default=ours(relay=["rq", "celery"]), other=ours(using="other", **other))

    (message,) = found()

    assert message.id == "aftercommit.W009"
    assert "TASKS['default'] and TASKS['other'] relay rq with" in message.msg


def test_backends_may_relay_one_library_in_the_same_way_and_others_in_theirs(backends):
    backends(default=ours(relay=["celery"]), other=ours(using="other", relay={"celery": {}}))
    assert found() == []

    backends(default=ours(relay=["celery"]), other=ours(using="other", relay_when="always"))
    assert found() == []


def test_w008_what_is_sent_to_celery_is_relayed(backends, monkeypatch):
    far = {"BACKEND": "aftercommit.CeleryBackend"}
    backends(default=ours(relay=["celery"]), far=far)
    assert task_backends["far"].check() == []

    backends(default=ours(), far=far)
    (message,) = task_backends["far"].check()
    assert message.id == "aftercommit.W008"
    assert "TASKS['far'] sends to Celery at once" in message.msg


@pytest.mark.parametrize("session_locks", [True, False])
def test_w010_session_locks_need_sessions(backends, monkeypatch, session_locks):
    """The pooler itself is noticed in ``tests/worker/test_pooled_presence.py``."""
    backends(default=ours(session_locks=session_locks))
    postgresql = database("postgresql", OPTIONS={"isolation_level": 2})
    monkeypatch.setattr(postgresql, "get_database_version", lambda: (17, 0))
    monkeypatch.setattr(servers, "_is_pooled", lambda database: True)

    messages = list(answers_of(postgresql))

    assert [message.id for message in messages] == ["aftercommit.W010"] * session_locks


def test_w011_messages_that_wait_for_a_relay(monkeypatch, backends):
    """The table itself is asked in ``tests/brokers/test_neglected.py``."""
    backends(default=ours(relay=["celery"]))
    monkeypatch.setattr(
        relay, "neglected", lambda backend: [Neglect("celery", backend.using, workers=False)]
    )

    assert [message.id for message in relay.check_relay()] == ["aftercommit.W011"]


def test_e013_without_autocommit_nothing_would_be_committed():
    for engine in ("sqlite3", "postgresql", "mysql"):
        messages = settings_of(database(engine, NAME="/x/db", AUTOCOMMIT=False))

        assert "aftercommit.E013" in ids(messages)


@pytest.mark.parametrize("name", ["db.sqlite3", "./db.sqlite3", "data/../db.sqlite3", Path("db")])
def test_w012_a_relative_path_is_another_file_in_another_folder(name):
    given = {"NAME": name, "OPTIONS": {"transaction_mode": "IMMEDIATE"}}

    assert only(settings_of(database("sqlite3", **given))).id == "aftercommit.W012"


@pytest.mark.parametrize("name", ["/x/db.sqlite3", Path("/x/db"), "file:/x/db?mode=rwc"])
def test_an_absolute_path_is_the_same_file_everywhere(name):
    given = {"NAME": name, "OPTIONS": {"transaction_mode": "IMMEDIATE"}}

    assert list(settings_of(database("sqlite3", **given))) == []


def test_an_app_that_is_made_ready_again_says_nothing_twice():
    before = set(registry.registry.get_checks(include_deployment_checks=True))

    checks.register_checks()

    assert set(registry.registry.get_checks(include_deployment_checks=True)) == before
