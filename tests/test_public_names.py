"""The words that users import, settings, tables: none comes or goes by accident."""

import ast
import importlib
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from django.apps import apps
from django.db import models

import aftercommit
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig

WORDS = {
    "BatchCall",
    "Cancel",
    "Call",
    "DatabaseBackend",
    "Delays",
    "Discard",
    "Exponential",
    "Polynomial",
    "ReplicaRouter",
    "Retry",
    "Secret",
    "Snooze",
    "Task",
    "chain",
    "deschedule",
    "enqueue_many",
    "gather",
    "group",
    "once",
    "ordering_key",
    "schedule",
    "task",
}


def test_the_public_words_are_these_and_sorted():
    assert aftercommit.__all__ == sorted(WORDS)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_public_word_is_documented(word):
    value = getattr(aftercommit, word)

    assert value.__module__.startswith("aftercommit")
    assert value.__doc__
    assert not value.__doc__.startswith(f"{word}(")  # the docstring that dataclasses make up


def test_a_star_import_brings_the_public_words():
    namespace = {}

    exec("from aftercommit import *", namespace)  # noqa: S102

    assert set(namespace) - {"__builtins__"} == WORDS


def test_a_word_that_is_not_ours_is_missing_in_the_usual_way():
    with pytest.raises(AttributeError, match="module 'aftercommit' has no attribute 'tsak'"):
        _ = aftercommit.tsak


def test_the_words_for_type_checkers_are_the_words_at_run_time():
    tree = ast.parse(Path(aftercommit.__file__).read_text())
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("aftercommit")
        for alias in node.names
        if alias.asname is None  # the version
    }

    assert set(imported) == WORDS
    for word, module in imported.items():
        assert getattr(aftercommit, word) is getattr(importlib.import_module(module), word)


def test_importing_the_package_needs_neither_settings_nor_django_tasks():
    code = (
        "import sys; sys.modules['django.tasks'] = sys.modules['django_tasks'] = None\n"
        "import aftercommit; print(aftercommit.Exponential().maximum, aftercommit.__version__)"
    )

    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert output == f"1:00:00 {aftercommit.__version__}\n"


# Settings.

SETTINGS = {
    BackendOptions: {
        *("using", "max_attempts", "backoff", "retry_on", "discard_on", "atomic", "timeout"),
        *("keep_result", "keep_received", "keep_audit", "archive", "keep_log"),
        *("read_from", "replica_wait"),
        *(
            "fuse",
            "max_crashes",
            "max_payload",
            "strict_json",
            "allowed_functions",
            "lease",
            "heartbeat",
        ),
        *(
            "poll_interval",
            "session_locks",
            "task_modules",
            "skip_task_modules",
            "task_packages",
            "relay",
        ),
        "relay_when",
        "on_conflict",
        "secret_keys",
        "queue_limits",
        "middleware",
        "headers",
        "statistics",
        "age_priority",
        "queue_rates",
        "schedules",
    },
    WorkerConfig: {
        *("backends", "queues", "strict", "processes", "threads", "drain", "max_jobs", "grace"),
        *("max_jobs_per_process", "max_memory"),
        *("watchdog", "fork", "relay"),
        # For worker processes that we start ourselves, since 0.2.
        *("crashed", "only", "tells_counts"),
    },
}


@pytest.mark.parametrize("options", SETTINGS)
def test_the_settings_are_these(options):
    assert {field.name for field in fields(options)} == SETTINGS[options]


# Tables: what is in a database that the version before has migrated.

MIGRATIONS = [
    "0001_initial",
    "0002_received",
    "0003_leases",
    "0004_indexes",
    "0005_old_indexes",
    "0006_received_by_bytes",
    "0007_rule",
    "0008_pruned",
    "0009_awaited",
    "0010_limits",
    "0011_flow",
    "0012_flow_tables",
    "0013_needed",
    "0014_graphs",
    "0015_schedules",
    "0016_notes",
    "0017_statistics",
    "0018_dashboard",
    "0019_workers",
]
COLUMNS = {
    "aftercommit_job": {
        "id": "UUIDField",
        "state": "CharField(9)",
        "claimable": "BooleanField",
        "unsuccessful": "BooleanField",
        "queue": "CharField(100)",
        "priority": "SmallIntegerField",
        "run_after": "DateTimeField",
        "backend": "CharField(100)",
        "task_path": "CharField(255)",
        "payload": "TextField",
        "meta": "JSONField",
        "headers": "TextField NULL",
        "tags": "TextField NULL",
        "token": "BigIntegerField",
        "attempts": "PositiveIntegerField",
        "crashes": "PositiveIntegerField",
        "conflicts": "PositiveIntegerField",
        "max_attempts": "PositiveIntegerField",
        "worker_id": "UUIDField NULL",
        "lease_until": "DateTimeField NULL",
        "cancel_requested": "BooleanField",
        "awaited": "BooleanField NULL",
        "needed": "BooleanField NULL",
        "waits_for": "PositiveIntegerField",
        "unique_key": "CharField(255) NULL",
        "unique_until_started": "BooleanField",
        "unique_lock": "CharField(64) NULL",
        "limit_key": "CharField(255) NULL",
        "slot": "PositiveIntegerField NULL",
        "blocked": "SmallIntegerField NULL",
        "rate_key": "CharField(64) NULL",
        "fair_key": "CharField(64) NULL",
        "line": "CharField(64) NULL",
        "enqueued_at": "DateTimeField",
        "started_at": "DateTimeField NULL",
        "claimed_at": "DateTimeField NULL",
        "finished_at": "DateTimeField NULL",
        "result": "TextField NULL",
        "errors": "TextField",
    },
    "aftercommit_lease": {
        "id": "UUIDField",
        "worker_id": "UUIDField",
        "lease_until": "DateTimeField",
        "jobs": "TextField",
    },
    "aftercommit_dependency": {
        "id": "BigAutoField",
        "job_id": "UUIDField",
        "needs_id": "UUIDField",
        "on_failure": "CharField(6) NULL",
        "outcome": "CharField(9) NULL",
        "place": "TextField NULL",
        "result": "TextField NULL",
    },
    "aftercommit_workerpresence": {
        "id": "UUIDField",
        "host": "CharField(255)",
        "pid": "PositiveIntegerField",
        "locked": "BooleanField",
        "started_at": "DateTimeField",
        "seen_at": "DateTimeField",
        "pruned": "BigIntegerField NULL",
        "pruned_at": "DateTimeField NULL",
        "clock": "DateTimeField NULL",
        "version": "CharField(50) NULL",
        "threads": "PositiveIntegerField NULL",
        "memory": "BigIntegerField NULL",
    },
    "aftercommit_received": {
        "id": "BigAutoField",
        "message_id": "CharField(255)",
        "consumer": "CharField(255)",
        "received_at": "DateTimeField",
    },
    "aftercommit_auditrecord": {
        "id": "BigAutoField",
        "at": "DateTimeField",
        "user_id": "CharField(255)",
        "by": "CharField(255)",
        "action": "CharField(50)",
        "subject": "CharField(255)",
        "details": "JSONField",
        "found": "PositiveIntegerField",
        "changed": "PositiveIntegerField",
    },
    "aftercommit_rule": {
        "id": "BigAutoField",
        "kind": "CharField(10)",
        "name": "CharField(255)",
        "paused_since": "DateTimeField NULL",
        "paused_by": "CharField(255)",
        "paused_because": "CharField(255)",
        "limit": "IntegerField NULL",
        "rate": "CharField(50) NULL",
    },
    "aftercommit_rate": {
        "key": "CharField(150)",
        "tat": "DateTimeField",
        "paused_until": "DateTimeField NULL",
    },
    "aftercommit_slot": {
        "id": "BigAutoField",
        "key": "CharField(150)",
        "number": "IntegerField",
        "job_id": "UUIDField",
        "token": "BigIntegerField",
    },
    "aftercommit_group": {
        "id": "UUIDField",
        "name": "CharField(255)",
        "description": "TextField",
        "meta": "JSONField",
        "final_id": "UUIDField NULL",
        "created_at": "DateTimeField",
        "cancelled_at": "DateTimeField NULL",
        "emptied_at": "DateTimeField NULL",
        "pruned_succeeded": "PositiveIntegerField",
        "pruned_failed": "PositiveIntegerField",
        "pruned_cancelled": "PositiveIntegerField",
    },
    "aftercommit_member": {
        "job_id": "UUIDField",
        "group_id": "UUIDField",
    },
    "aftercommit_progress": {
        "job_id": "UUIDField",
        "token": "BigIntegerField",
        "done": "BigIntegerField",
        "total": "BigIntegerField NULL",
        "message": "CharField(255)",
        "changed_at": "DateTimeField",
    },
    "aftercommit_logline": {
        "id": "BigAutoField",
        "job_id": "UUIDField",
        "token": "BigIntegerField",
        "attempt": "IntegerField",
        "level": "SmallIntegerField",
        "logger": "CharField(255)",
        "message": "TextField",
        "logged_at": "DateTimeField",
    },
    "aftercommit_saved": {
        "id": "BigAutoField",
        "job_id": "UUIDField",
        "kind": "CharField(10)",
        "name": "CharField(100)",
        "token": "BigIntegerField",
        "value": "TextField NULL",
        "saved_at": "DateTimeField",
    },
    "aftercommit_schedule": {
        "id": "BigAutoField",
        "name": "CharField(255)",
        "source": "CharField(10)",
        "enabled": "BooleanField",
        "task_path": "CharField(255)",
        "backend": "CharField(100)",
        "queue": "CharField(100)",
        "priority": "SmallIntegerField NULL",
        "payload": "TextField",
        "cron": "CharField(255)",
        "every": "DurationField NULL",
        "timezone": "CharField(64)",
        "catch_up": "CharField(4)",
        "catch_up_within": "DurationField NULL",
        "overlap": "CharField(5)",
        "jitter": "DurationField NULL",
        "declared": "TextField NULL",
        "digest": "CharField(64)",
        "former": "TextField NULL",
        "declared_at": "DateTimeField NULL",
        "seen_at": "DateTimeField NULL",
        "ended_at": "DateTimeField NULL",
        "edited": "TextField NULL",
        "next_run": "DateTimeField NULL",
        "last_run": "DateTimeField NULL",
        "last_job_id": "UUIDField NULL",
        "missed": "PositiveIntegerField",
        "skipped": "PositiveIntegerField",
        "problem": "TextField",
        "created_at": "DateTimeField",
        "changed_at": "DateTimeField",
    },
    "aftercommit_tick": {
        "id": "BigAutoField",
        "schedule": "CharField(255)",
        "moment": "DateTimeField",
        "job_id": "UUIDField NULL",
    },
    "aftercommit_statistic": {
        "id": "UUIDField",
        "span": "CharField(6)",
        "began_at": "DateTimeField",
        "task_path": "CharField(255)",
        "queue": "CharField(100)",
        "outcome": "CharField(10)",
        "jobs": "BigIntegerField",
        "waited": "DurationField",
        "ran": "DurationField",
        "waits": "TextField",
        "runs": "TextField",
    },
}
INDEXES = {
    "aftercommit_job_claimable": ["backend", "queue", "-priority", "run_after", "id"],
    "aftercommit_job_crashed": ["run_after", "id"],
    "aftercommit_job_unsuccessful": ["id"],
    "aftercommit_job_limited": ["blocked", "limit_key", "priority", "run_after", "id"],
    "aftercommit_job_line": ["line", "priority", "run_after", "id"],
    "aftercommit_job_lease": ["lease_until"],
    "aftercommit_dependency_needs": ["needs_id"],
    "aftercommit_dependency_open": ["job_id", "outcome"],
    "aftercommit_group_name": ["name", "created_at"],
    "aftercommit_member_group": ["group_id", "job_id"],
    "aftercommit_logline_job": ["job_id", "id"],
    "aftercommit_schedule_next": ["next_run"],
    "aftercommit_statistic_span": ["span", "began_at"],
}
UNIQUE = {
    "aftercommit_job_unique": ["unique_lock"],
    "aftercommit_job_slot": ["limit_key", "slot"],
    "aftercommit_dependency_once": ["job_id", "needs_id"],
    "aftercommit_received_once": ["message_id", "consumer"],
    "aftercommit_rule_once": ["kind", "name"],
    "aftercommit_slot_once": ["key", "number"],
    "aftercommit_saved_once": ["job_id", "kind", "name"],
    "aftercommit_tick_once": ["schedule", "moment"],
}
CHECKED = {"aftercommit_job_consistent"}


def our_models():
    return list(apps.get_app_config("aftercommit").get_models())


def described(field):
    """Return a column's type as these lists have it."""
    kind, length = field.get_internal_type(), getattr(field, "max_length", None)
    sized = f"{kind}({length})" if kind == "CharField" else kind
    return f"{sized} NULL" if field.null else sized


def test_the_migrations_are_these():
    folder = Path(apps.get_app_config("aftercommit").path, "migrations")

    assert sorted(file.stem for file in folder.glob("0*.py")) == MIGRATIONS


def test_the_columns_are_these():
    found = {
        model._meta.db_table: {field.column: described(field) for field in model._meta.fields}
        for model in our_models()
    }

    assert found == COLUMNS


def test_the_indexes_are_these():
    found = {index.name: index.fields for model in our_models() for index in model._meta.indexes}
    alone = {
        f"{model._meta.db_table}.{field.column}"
        for model in our_models()
        for field in model._meta.fields
        if field.db_index
    }

    assert found == INDEXES
    assert alone == {"aftercommit_workerpresence.seen_at", "aftercommit_received.received_at"}


def test_the_constraints_are_these():
    constraints = [one for model in our_models() for one in model._meta.constraints]
    unique = [one for one in constraints if isinstance(one, models.UniqueConstraint)]

    assert {one.name: list(one.fields) for one in unique} == UNIQUE
    assert {one.name for one in constraints} - {one.name for one in unique} == CHECKED
