"""The command ``aftercommit lint``."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aftercommit.lint import baseline
from aftercommit.lint.analysis import Report, lint
from aftercommit.lint.cache import Cache, default_cache
from aftercommit.lint.configuration import (
    Configuration,
    ConfigurationError,
    check_rules,
    from_pyproject,
    severity_named,
)
from aftercommit.lint.output import FORMATS
from aftercommit.race_rules import RULES, Severity

CLEAN, FOUND, WRONG_USE = 0, 1, 2
HERE = "the command line"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the linter; return 0 if nothing was found, 1 if something was, 2 if it was misused."""
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except ConfigurationError as error:
        print(f"aftercommit lint: {error}", file=sys.stderr)
        return WRONG_USE


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(
        prog="aftercommit lint",
        description="Find tasks that are sent to a broker inside open database transactions.",
    )
    made.add_argument(
        "paths", nargs="*", metavar="PATH", default=["."], help="files or folders (.)"
    )
    made.add_argument("--format", choices=sorted(FORMATS), default="text", help="text")
    made.add_argument("--select", metavar="RULES", default="", help="only these: AC1,AC206")
    made.add_argument("--ignore", metavar="RULES", default="", help="none of these")
    made.add_argument(
        "--severity",
        metavar="|".join(Severity),
        help="the least severe to report (warning); policy reports any undeferred dispatch",
    )
    made.add_argument("--baseline", metavar="FILE", help="report only what is not in this file")
    made.add_argument("--write-baseline", metavar="FILE", help="write all findings to this file")
    made.add_argument("--settings", metavar="MODULE", help="the settings that production uses")
    made.add_argument("--jobs", metavar="N", type=int, default=0, help="processes (all cores)")
    made.add_argument(
        "--no-cache", action="store_true", help="read all files anew, and keep nothing of them"
    )
    made.add_argument(
        "--fix", action="store_true", help="rewrite what is shown to be wrong, and lint again"
    )
    made.add_argument("--explain", metavar="RULE", help="print what a rule says, and end")
    return made


def _run(options: argparse.Namespace) -> int:
    if options.explain:
        return _explain(options.explain)
    paths = [Path(path) for path in options.paths]
    for path in paths:
        if not path.exists():
            raise ConfigurationError(f"there is no {path}.")
    configuration = _configuration(options, paths[0].resolve())
    if options.write_baseline:
        configuration = replace(configuration, baseline="")
    jobs = options.jobs or os.cpu_count() or 1
    cache = None if options.no_cache else default_cache()
    report = _lint(paths, configuration, jobs, cache)
    if options.fix and _repair(report):
        report = _lint(paths, configuration, jobs, cache)
    if options.write_baseline:
        number = baseline.write(report.findings, Path(options.write_baseline))
        _say(f"{number} findings written to {options.write_baseline}")
        return CLEAN
    return _print(report, options.format)


def _lint(
    paths: list[Path], configuration: Configuration, jobs: int, cache: Cache | None
) -> Report:
    report = lint(paths, configuration, jobs=jobs, cache=cache)
    if not configuration.baseline:
        return report
    new = baseline.unknown_to(report.findings, Path(configuration.baseline))
    return replace(report, findings=new)


def _repair(report: Report) -> int:
    try:
        from aftercommit.lint.fix import repair  # noqa: PLC0415 - libcst is optional
    except ImportError as error:
        raise ConfigurationError(
            "--fix needs libcst: pip install 'aftercommit[lint-fix]'."
        ) from error
    changed = repair(report.findings)
    print(f"{changed} places rewritten", file=sys.stderr)
    return changed


def _print(report: Report, format_name: str) -> int:
    written = FORMATS[format_name](report)
    if written:
        _say(written)
    return FOUND if report.findings else CLEAN


def _say(text: str) -> None:
    """Print a text, for a reader that may have enough before its end: ``| head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _configuration(options: argparse.Namespace, start: Path) -> Configuration:
    found = from_pyproject(start if start.is_dir() else start.parent)
    if options.severity:
        found = replace(found, severity=severity_named(options.severity, HERE))
    return replace(
        found,
        select=_codes(options.select) or found.select,
        ignore=_codes(options.ignore) or found.ignore,
        settings=options.settings or found.settings,
        baseline=options.baseline or found.baseline,
    )


def _codes(written: str) -> tuple[str, ...]:
    codes = tuple(filter(None, written.upper().replace(" ", "").split(",")))
    check_rules(codes, HERE)
    return codes


def _explain(name: str) -> int:
    check_rules((name.upper(),), HERE)
    for rule in (one for code, one in RULES.items() if code.startswith(name.upper())):
        _say(
            f"{rule.id} {rule.severity}: {rule.title}\n{rule.message('A task')}\n{rule.fix}\n"
            f"{rule.page}\n"
        )
    return CLEAN
