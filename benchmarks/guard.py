"""What the guard costs: ``python -m benchmarks.guard``, with SQLite in memory.

Prints microseconds for a transaction and for a dispatch, without the guard and with it; the
smallest of several rounds, since a busy machine only ever adds. The dispatch is Celery's
``send_task`` with a producer that sends nowhere, so that no broker hides the difference.
"""

import gc
import time
from collections.abc import Callable

import django
from django.conf import settings

ROUNDS, TIMES = 300, 200  # short rounds: some fall where nobody else is at work


def main() -> None:
    """Measure, and print a table."""
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["aftercommit.guard"],
        AFTERCOMMIT_GUARD={"mode": "off"},
    )
    django.setup()
    from aftercommit.guard import install, uninstall  # noqa: PLC0415 - settings come first

    cases = _cases()
    without = {name: _measured(case) for name, case in cases.items()}
    install(mode="log", adapters={"celery": "off"})
    with_guard = {name: _measured(case) for name, case in cases.items()}
    uninstall()
    print(f"{'':34}{'without':>10}{'with':>10}{'more':>10}   µs each")
    for name in cases:
        one, other = without[name], with_guard[name]
        print(f"{name:34}{one:>10.2f}{other:>10.2f}{other - one:>10.2f}")


def _cases() -> dict[str, Callable[[], object]]:
    from celery import Celery  # noqa: PLC0415 - after settings
    from django.db import transaction  # noqa: PLC0415

    app = Celery("benchmark", broker="memory://", set_as_current=False)
    message = app.amqp.create_task_message("id", "shop.send_receipt", [1], {})
    producer = _Nowhere()

    def atomic() -> None:
        with transaction.atomic():
            pass

    def savepoint() -> None:
        with transaction.atomic(savepoint=False):
            pass

    def dispatch() -> None:
        app.amqp.send_task_message(producer, "shop.send_receipt", message)

    def inside(call: Callable[[], None]) -> Callable[[], None]:
        def times() -> None:
            with transaction.atomic():
                for _ in range(TIMES):
                    call()

        return times

    return {
        "atomic": atomic,
        "atomic inside another": inside(savepoint),
        "dispatch": dispatch,
        "dispatch inside a transaction": inside(dispatch),
    }


class _Nowhere:
    """A producer of kombu that sends nothing."""

    def publish(self, *_: object, **__: object) -> None:
        """Do nothing."""


def _measured(case: Callable[[], object]) -> float:
    """Return the microseconds of one call."""
    times = 1 if case.__name__ == "times" else TIMES  # it repeats by itself
    case()
    gc.disable()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(times):
            case()
        best = min(best, time.thread_time() - began)
    gc.enable()
    return best / TIMES * 1e6


if __name__ == "__main__":
    main()
