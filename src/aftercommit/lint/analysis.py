"""From paths to findings: the whole of the linter in one line of rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aftercommit.lint import rq_commits
from aftercommit.lint.cache import Cache
from aftercommit.lint.configuration import Configuration, ConfigurationError
from aftercommit.lint.environment import Environment
from aftercommit.lint.facts import Module
from aftercommit.lint.findings import Finding
from aftercommit.lint.graph import Knowledge, build
from aftercommit.lint.project import Project
from aftercommit.lint.reach import Reach
from aftercommit.lint.reading import read
from aftercommit.lint.rules import CHECKS
from aftercommit.lint.settings_files import SettingsFiles, is_test_settings
from aftercommit.lint.source import decode, parse, python_files


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, in how much code."""

    findings: tuple[Finding, ...]  # in order of path and line
    files: int
    lines: int
    unparsed: tuple[str, ...]  # files of which parts, or all, could not be parsed


def lint(
    paths: Iterable[Path],
    configuration: Configuration,
    *,
    jobs: int = 1,
    cache: Cache | None = None,
) -> Report:
    """Return what the rules find under some paths.

    ``jobs``: processes that read and parse files. ``cache``: where the facts of unchanged files
    are taken from and those of others are kept; by default nowhere. Raises
    ``ConfigurationError`` if the module of settings is not there.
    """
    files = list(python_files(paths, configuration.exclude))
    return judge(read(files, jobs=jobs, cache=cache), configuration)


def judge(modules: list[Module], configuration: Configuration) -> Report:
    """Return what the rules find in modules that have been read."""
    project = Project(modules)
    known = Knowledge(project, _environment(project, configuration))
    graph = build(known)
    reach = Reach(known, graph)
    found = {finding for check in CHECKS for finding in check(known, graph, reach)}
    noqa = {module.path: dict(module.noqa) for module in modules}
    kept = (
        one
        for one in found
        if configuration.wants(one.rule, one.severity) and not _silenced(one, noqa[one.path])
    )
    return Report(
        findings=tuple(sorted(kept, key=lambda one: one.order)),
        files=len(modules),
        lines=sum(module.lines for module in modules),
        unparsed=tuple(module.path for module in modules if module.recovered),
    )


def _silenced(found: Finding, noqa: dict[int, str]) -> bool:
    for line in range(found.line, found.end_line + 1):
        codes = noqa.get(line)
        if codes is not None and (not codes or found.rule in codes.replace(",", " ").split()):
            return True
    return False


def _environment(project: Project, configuration: Configuration) -> Environment:
    trees = {}
    wanted = [number for number, module in enumerate(project.modules) if module.settings]
    if configuration.settings:
        named = project.find_module(configuration.settings, 0) if project.modules else None
        if named is None:
            raise ConfigurationError(
                f"--settings {configuration.settings}: no such module under the given paths."
            )
        chosen = [named]
    else:
        chosen = [one for one in wanted if not is_test_settings(project.path(one), project.root)]
    for number, module in enumerate(project.modules):
        if module.settings or number in chosen or "settings" in module.path:
            trees[number] = _tree(module.path)
    files = SettingsFiles(project, trees)
    every = [files.values(number) for number in chosen]
    databases = [v["DATABASES"] for v in every if isinstance(v.get("DATABASES"), dict)]
    entries = [e for one in databases for e in one.values() if isinstance(e, dict)]
    atomic = any(entry.get("ATOMIC_REQUESTS") is True for entry in entries)
    if configuration.atomic_requests is not None:
        atomic = configuration.atomic_requests
    return Environment(
        atomic_requests=atomic,
        has_settings=bool(databases),
        task_backends=tuple(_backends(every)),
        q_in_database=any(
            isinstance(v.get("Q_CLUSTER"), dict) and v["Q_CLUSTER"].get("orm") for v in every
        ),
        rq_waits=rq_commits.waits(every, project.root),
        has_django_rq=any("RQ_QUEUES" in values for values in every),
        dispatchers=configuration.dispatchers,
        transactions=configuration.transactions,
        replicas=frozenset(_replicas(databases)),
    )


def _tree(path: str) -> ast.Module:
    try:
        return parse(decode(Path(path).read_bytes()))[0]
    except OSError:
        return ast.Module(body=[], type_ignores=[])


def _backends(every: list[dict[str, object]]) -> Iterable[str]:
    for values in every:
        tasks = values.get("TASKS")
        for entry in tasks.values() if isinstance(tasks, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("BACKEND"), str):
                yield entry["BACKEND"]


def _replicas(databases: list[dict[str, object]]) -> Iterable[str]:
    for one in databases:
        for alias, entry in one.items():
            test = entry.get("TEST") if isinstance(entry, dict) else None
            if isinstance(test, dict) and test.get("MIRROR"):
                yield str(alias)
