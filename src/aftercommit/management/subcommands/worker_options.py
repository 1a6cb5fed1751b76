"""The options of ``worker`` and ``relay``; their defaults live in ``WorkerConfig``."""

import argparse
from dataclasses import fields
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError

from aftercommit.errors import ConfigurationError
from aftercommit.options.queues import is_queue_name
from aftercommit.options.sizes import bytes_of
from aftercommit.options.worker import WorkerConfig

HIGHEST_PORT = 65535


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``worker`` takes; defaults live in ``WorkerConfig``."""
    parser.add_argument(
        "--queues",
        type=_names,
        help="names or patterns, with commas, each with a weight if need be: mail,reports*:2 "
        "(default: every queue)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="ask a queue only when those before it in --queues have no due job",
    )
    add_process_arguments(parser)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every kind of worker takes."""
    parser.add_argument(
        "--backend",
        action="append",
        dest="backends",
        metavar="ALIAS",
        help="a backend of TASKS; may be repeated (default: every one of ours)",
    )
    parser.add_argument("--processes", type=int, help="worker processes (default: 1)")
    parser.add_argument("--threads", type=int, help="jobs at once in each process (default: 4)")
    parser.add_argument("--drain", action="store_true", help="run what is due, then end")
    parser.add_argument("--max-jobs", type=int, help="end after so many runs (default: never)")
    parser.add_argument(
        "--max-jobs-per-process",
        type=int,
        metavar="N",
        help="replace a process after so many jobs (default: never)",
    )
    parser.add_argument(
        "--max-memory",
        type=_bytes,
        metavar="SIZE",
        help="replace a process that occupies more memory, such as 512M or 2G (default: never)",
    )
    parser.add_argument(
        "--grace", type=_seconds, help="seconds that a stop waits for running jobs (default: 30)"
    )
    parser.add_argument(
        "--watchdog",
        type=_seconds,
        help="seconds after which a process without a sign of life is killed and replaced; "
        "0: never (default: the longest lease)",
    )
    parser.add_argument(
        "--health-port",
        type=_address,
        metavar="[HOST:]PORT",
        help="serve /healthz, /readyz and /metrics there, such as 8001 or 127.0.0.1:8001 "
        "(default: no port; without HOST: on all addresses)",
    )
    parser.add_argument(
        "--fork",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let processes be forks where that is safe, or never (default: where it is safe)",
    )
    parser.add_argument(
        "--reload",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="start again when code changes (default: with DEBUG)",
    )


def config_from(options: dict[str, Any]) -> WorkerConfig:
    """Build the configuration from what was given on the command line."""
    names = [field.name for field in fields(WorkerConfig)]
    given = {name: options[name] for name in names if options.get(name) is not None}
    if "backends" in given:
        given["backends"] = tuple(given["backends"])
    try:
        return WorkerConfig.from_mapping(given, where="aftercommit worker")
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(map(is_queue_name, names)):
        raise argparse.ArgumentTypeError(
            f"expected queues with commas between them, such as default,mail; got {text!r}"
        )
    return names


def _address(text: str) -> tuple[str, int]:
    host, _colon, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(
            f"expected a port such as 8001, or 127.0.0.1:8001, got {text!r}"
        )
    return host.strip("[]"), int(port)


def _bytes(text: str) -> int:
    try:
        return bytes_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a size of memory, such as 512M or 2G; got {text!r}"
        ) from error


def _seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}") from error
