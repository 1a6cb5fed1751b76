"""The reference is whole: it lists all there is, with its defaults, and nothing else."""

import ast
import inspect
import re
from dataclasses import MISSING
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal

import aftercommit
from aftercommit import errors, events
from aftercommit.enqueue import outcomes as control
from aftercommit.enqueue.decorator import task
from aftercommit.enqueue.functions import deschedule, schedule
from aftercommit.enqueue.task import Task
from aftercommit.models import (
    AuditRecord,
    Dependency,
    Group,
    Job,
    Lease,
    Member,
    Rate,
    Received,
    Rule,
    Schedule,
    Slot,
    State,
    Statistic,
    Tick,
    WorkerPresence,
)
from aftercommit.options import backoff as retry
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.windows import checks
from aftercommit.windows.metrics.names import OF_DATABASE, OF_WORKER
from aftercommit.worker.processes.launch import SUBCOMMAND
from aftercommit.worker.running.context import JobContext
from tests.docs import pages
from tests.docs.pages import ROOT, extras, project

SRC = Path(aftercommit.__file__).parent
REFERENCE = ROOT / "docs" / "reference"
EXPLANATION = ROOT / "docs" / "explanation"


def code(text: str) -> str:
    """Return what stands in backticks in a cell, or nothing."""
    found = pages.CODE.findall(text)
    return found[0] if found else ""


def value_of(cell: str) -> object:
    """Evaluate a default as it is written in a table."""
    words = {"timedelta": timedelta, "Exponential": retry.Exponential}
    return eval(code(cell), words)  # noqa: S307 - our own pages


def defaults(page: Path, section: str, *, column: int) -> dict[str, object]:
    """Return the names in the first column of a table with the defaults in another."""
    return {
        code(row[0]): value_of(row[column]) for row in pages.tables(page, section) if row[column]
    }


def fields_of(options: type) -> dict[str, object]:
    """Return the fields of a dataclass with their defaults."""
    return {
        name: field.default if field.default_factory is MISSING else field.default_factory()
        for name, field in options.__dataclass_fields__.items()
        if field.default is not MISSING or field.default_factory is not MISSING
    }


def parameters_of(function: object) -> dict[str, object]:
    """Return the parameters of a function with their defaults."""
    found = inspect.signature(function).parameters.values()
    return {
        one.name: one.default for one in found if one.kind is not inspect.Parameter.VAR_KEYWORD
    }


def sections(page: Path) -> dict[str, str]:
    """Return the third-level headings of a page with what is written under them."""
    parts = re.split(r"^### (.+)$", pages.prose(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_options_of_a_backend_are_documented_with_their_defaults():
    told = defaults(REFERENCE / "settings.md", "## Options", column=2)

    assert told == fields_of(BackendOptions)


def test_the_options_of_a_task_are_documented_with_their_defaults():
    told = defaults(REFERENCE / "task-options.md", "## Options", column=1)

    # Django's own stand in the decorator, because Django 6.0 gives them no defaults.
    declared = {**fields_of(Task), **parameters_of(task)}
    assert told == {name: declared[name] for name in set(declared) - {"function", "run_after"}}


def test_what_using_takes_is_documented():
    told = pages.names(REFERENCE / "task-options.md", "## using()")

    assert told == [name for name in parameters_of(Task.using) if name != "self"]


def test_what_schedule_takes_is_documented_with_its_defaults():
    page = REFERENCE / "task-options.md"

    assert pages.names(page, "## schedule()") == list(parameters_of(schedule))
    told = defaults(page, "## schedule()", column=1)
    assert told == {
        name: default for name, default in parameters_of(schedule).items() if name in told
    }
    assert set(parameters_of(deschedule)) <= set(parameters_of(schedule))


def test_the_methods_of_a_task_are_documented():
    page = REFERENCE / "task-options.md"
    told = {name.partition("(")[0] for name in pages.names(page, "## Calls")}

    public = {name for name in dir(Task) if not name.startswith("_")}
    methods = {name for name in public if inspect.isfunction(inspect.getattr_static(Task, name))}
    twins = {f"a{name}" for name in told} & methods
    assert methods - {"get_backend"} == told | twins
    assert all(f"`{name}()`" in pages.prose(page) for name in twins)


def test_the_context_is_documented():
    told = {
        name.strip("()") for name in pages.names(REFERENCE / "task-options.md", "## The context")
    }

    public = {name for name in dir(JobContext) if not name.startswith("_")}
    assert told == public - {
        "enter_commit",
        "is_cancel_requested",
        "check",
        "find_schedule",
        "pause_rate",
        "find_group",
        "notes",
    }


def test_the_public_names_are_documented():
    told = pages.names(REFERENCE / "task-options.md", "## Public names")

    assert told == sorted(set(told))
    assert set(told) == set(aftercommit.__all__)


def options_of(name: str, *words: str) -> dict[str, object]:
    """Return the options of a command or subcommand of ours with their defaults."""
    parser = load_command_class("aftercommit", name).create_parser("manage.py", name)
    for word in words:
        (commands,) = (one for one in parser._actions if isinstance(one.choices, dict))
        parser = commands.choices[word]
    djangos = {one.dest for one in BaseCommand().create_parser("manage.py", "x")._actions}
    return {
        option: action.default
        for action in parser._actions
        if action.dest not in djangos
        for option in action.option_strings
        if option.startswith("--")
    }


def test_the_options_of_the_worker_are_documented_with_their_defaults():
    page, section = REFERENCE / "commands.md", "## aftercommit worker"
    options = options_of("aftercommit", "worker")

    assert [name for name in pages.names(page, section) if name.startswith("--")] == list(options)
    config = fields_of(WorkerConfig)
    told = {
        code(row[0]).strip("-").replace("-", "_"): value_of(row[1])
        for row in pages.tables(page, section)
        if row[0].startswith("`--") and code(row[1]) and "reload" not in row[0]
    }
    assert told == {name: config[name] for name in told}
    # What the others take is said in words; the last three are no options of a command.
    said = {"backends", "queues", "relay"}
    assert set(config) - set(told) == {*said, "crashed", "only", "tells_counts"}


def test_the_options_of_flush_queue_are_documented_with_their_defaults():
    told = defaults(REFERENCE / "commands.md", "## flush_queue", column=1)

    assert told == options_of("flush_queue")


def test_every_command_is_documented():
    told = {heading.split()[0] for heading in pages.headings(REFERENCE / "commands.md")[1:]}

    assert told == {name for name, app in get_commands().items() if app == "aftercommit"}
    parser = load_command_class("aftercommit", "aftercommit").create_parser("manage.py", "x")
    (commands,) = (one for one in parser._actions if isinstance(one.choices, dict))
    listed = {action.dest for action in commands._choices_actions}  # those with a help text
    for word in listed:
        assert f"aftercommit {word}" in pages.headings(REFERENCE / "commands.md")
    assert set(commands.choices) - listed == {SUBCOMMAND}  # for our own processes only


@pytest.mark.parametrize(
    ("section", "metrics"), [("## Of a database", OF_DATABASE), ("## Of a worker", OF_WORKER)]
)
def test_every_metric_is_documented(section, metrics):
    told = [
        (code(row[0]), row[1], tuple(pages.CODE.findall(row[2])), row[3])
        for row in pages.tables(REFERENCE / "metrics.md", section)
    ]

    assert told == [(one.name, one.kind, tuple(one.labels), one.help) for one in metrics]


def test_every_check_is_documented_in_the_words_of_its_list():
    told = sections(REFERENCE / "checks.md")

    assert [f"aftercommit.{name}" for name in told] == list(checks.CHECKS)
    for name, text in told.items():
        summary, fix = re.fullmatch(r"\*\*(.+?)\.\*\* (.+)", " ".join(text.split())).groups()
        words = checks.CHECKS[f"aftercommit.{name}"]
        assert summary == words[0].upper() + words[1:]
        assert fix


def test_every_exception_is_documented():
    ours = {
        name
        for module in (errors, control)
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, BaseException)
        and value.__module__ == module.__name__
    }

    assert set(sections(REFERENCE / "errors.md")) == ours


def test_the_facts_of_an_exception_are_documented():
    for name, text in sections(REFERENCE / "errors.md").items():
        source = inspect.getsource(getattr(errors, name, None) or getattr(control, name))
        facts = set(re.findall(r"^        self\.(\w+) = ", source, re.MULTILINE))
        if hasattr(errors, name):
            told = text.partition("Attributes: ")[2]
            assert set(pages.CODE.findall(told)) == facts, name


def test_every_event_is_documented_with_what_it_carries():
    told = {
        code(row[0]): set(pages.CODE.findall(row[1]))
        for row in pages.tables(REFERENCE / "events.md", "## Signals")
    }

    assert set(told) == {
        name for name, value in vars(events).items() if isinstance(value, Signal)
    }
    assert told == carried()


def carried() -> dict[str, set[str]]:
    """Return the arguments with which the package sends each event."""
    found: dict[str, set[str]] = {}
    for path in SRC.rglob("*.py"):
        alike: set[str] = set()  # what a method of the file gives to any event
        named: set[str] = set()  # the events that it is called for
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="events"), attr="send"),
                    args=[ast.Attribute(value=ast.Name(id="events"), attr=name)],
                ):
                    assert found.setdefault(name, given_to(call)) == given_to(call)
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="events"), attr="send"),
                    args=[ast.Name(id="signal")],
                ):
                    alike = given_to(call)
                case ast.Call(
                    func=ast.Attribute(attr="_send"),
                    args=[ast.Attribute(value=ast.Name(id="events"), attr=name)],
                ):
                    named.add(name)
        found |= dict.fromkeys(named, alike)
    return found


def given_to(call: ast.Call) -> set[str]:
    """Return the names of what a signal is sent with."""
    return {str(one.arg) for one in call.keywords} - {"sender"}


@pytest.mark.parametrize(
    "model",
    [
        Job,
        Lease,
        Dependency,
        Group,
        Member,
        Received,
        Rule,
        Rate,
        Slot,
        Schedule,
        Statistic,
        Tick,
        WorkerPresence,
        AuditRecord,
    ],
)
def test_every_column_is_documented(model):
    told = pages.names(REFERENCE / "jobs-table.md", f"## {model._meta.db_table}")

    assert told == [field.column for field in model._meta.concrete_fields]


def test_the_states_are_documented():
    text = (EXPLANATION / "life-of-a-job.md").read_text()
    rows = pages.tables(EXPLANATION / "life-of-a-job.md", "## Who may do what")
    told = {name for row in rows for cell in row[:2] for name in pages.CODE.findall(cell)}

    assert told == set(State.values)
    assert all(state in text for state in State.values)


def test_every_dependency_is_documented():
    page = EXPLANATION / "dependencies.md"
    name = re.compile(r"[\w-]+")

    told = {
        code(row[0]): set(pages.CODE.findall(row[1])) for row in pages.tables(page, "## Extras")
    }
    wanted = {
        extra: {name.match(requirement)[0] for requirement in requirements}
        for extra, requirements in extras().items()
    }
    assert told == wanted
    installed = pages.names(page, "## What is installed")
    assert installed == [name.match(requirement)[0] for requirement in project()["dependencies"]]


def test_what_is_our_own_is_where_the_page_says():
    for row in pages.tables(
        EXPLANATION / "dependencies.md", "## What we wrote ourselves, and why"
    ):
        assert (SRC / code(row[1])).exists(), row


TO_COME = {"models/progress.py", "store/progress.py", "tests/store/test_progress.py"}  # examples


def test_every_file_that_the_architecture_names_is_there():
    text = (EXPLANATION / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", text)) - TO_COME

    here = [SRC, SRC / "worker", SRC.parents[1]]
    assert len(named) > 30
    assert [one for one in named if not any((root / one).exists() for root in here)] == []


def test_the_versions_are_those_of_the_package_and_its_checks():
    rows = {row[0]: row[1] for row in pages.tables(pages.README, "## Versions")}

    classifiers = project()["classifiers"]
    for product in ("Python", "Django"):
        prefix = (
            "Programming Language :: Python" if product == "Python" else "Framework :: Django"
        )
        named = {
            one.removeprefix(f"{prefix} :: ") for one in classifiers if one.startswith(prefix)
        }
        versions = {one for one in named if re.fullmatch(r"\d+\.\d+", one)}
        assert set(re.findall(r"\d+\.\d+", rows[product])) == versions
    oldest = import_module("aftercommit.windows.checks.servers").OLDEST
    for product, version in oldest.items():
        assert rows[product].startswith(f"{'.'.join(map(str, version))} or newer"), product


def test_the_changelog_has_an_entry_for_this_version():
    headings = pages.headings(ROOT / "CHANGELOG.md")

    assert any(heading.startswith(f"[{aftercommit.__version__}]") for heading in headings)
