"""Start the demo: a web server, a worker and their database, until Ctrl-C.

python demo/run.py [--db sqlite|postgres] [--queue celery|rq] [--port 8000] [--no-browser]
"""

import argparse
import os
import signal
import sys
import time
import webbrowser
from pathlib import Path

from processes import HERE, Demo, DemoFailed, is_free
from screen import first_screen, say
from servers import KINDS, add_queue, look_for_redis, variables_for

DATABASE_NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
QUEUE_NAMES = {"celery": "Celery on Redis", "rq": "django-rq on Redis"}
HIGHEST_PORT = 65535


def main() -> int:
    """Run until somebody ends it; return the exit status."""
    options = _options()
    # One way to stop: SIGTERM interrupts just as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        look_for_redis(options.queue)
        with variables_for(options.db, data=options.data) as variables:
            demo = Demo(
                data=options.data,
                database=options.db,
                variables=variables,
                port=_free_port(options.port),
                queue=options.queue,
            )
            _run(demo, options)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except DemoFailed as failure:
        say(str(failure))
        return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The aftercommit demo, all in one.")
    parser.add_argument("--db", choices=KINDS, default=os.environ.get("DB", "sqlite"))
    add_queue(parser)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--data", type=Path, default=HERE / "data")
    options = parser.parse_args()
    options.data = options.data.resolve()
    return options


def _run(demo: Demo, options: argparse.Namespace) -> None:
    say("Preparing the database …")
    demo.prepare()
    with demo.running():
        _welcome(demo, options.db)
        if not options.no_browser and _has_windows():
            webbrowser.open(demo.origin)
        _keep_running(demo)


def _keep_running(demo: Demo) -> None:
    """Replace a worker that was killed; end when the web server ends."""
    while demo.web.returncode is None:
        if demo.worker.returncode is not None:
            _replace_worker(demo)
        time.sleep(0.5)
    raise DemoFailed(f"The web server ended:\n{demo.web.last_words()}")


def _replace_worker(demo: Demo) -> None:
    if demo.worker.returncode >= 0:  # by itself: another one would do the same
        raise DemoFailed(f"The worker ended:\n{demo.worker.last_words()}")
    say(f"The worker was killed (signal {-demo.worker.returncode}); here is a new one.")
    demo.start_worker()


def _free_port(wanted: int) -> int:
    for port in range(wanted, HIGHEST_PORT + 1):
        if is_free(port):
            return port
        say(f"Port {port} is taken; trying the next.")
    raise DemoFailed(f"No port from {wanted} on is free.")


def _has_windows() -> bool:
    # Without a screen, webbrowser would start a browser inside this terminal.
    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform == "darwin" or any(os.environ.get(name) for name in screens)


def _welcome(demo: Demo, kind: str) -> None:
    data = min(str(demo.data), os.path.relpath(demo.data), key=len)
    by = "" if demo.queue == "aftercommit" else f", by way of {QUEUE_NAMES[demo.queue]}"
    lines = [
        ("Open", demo.origin),
        ("Admin", f"{demo.origin}/admin/   user admin, password demo"),
        ("", ""),
        ("URL lengths", "measure a page; watch its length arrive"),
        ("Sign up", "let the request fail after it has enqueued: no user, no mail"),
        ("Shop", "change a price in the admin; the offers follow, with the new price"),
        ("Back office", "import a file; let a task and a batch race; a provider that says 429"),
        ("Be rude", f"kill -9 -- -$(cat {data}/worker.pid)   while a page is being measured"),
        ("", ""),
        ("Logs", f"{data}/web.log, worker.log" + (", relay.log" if by else "")),
        ("Stop", "Ctrl-C"),
    ]
    first_screen(f"aftercommit demo on {DATABASE_NAMES[kind]}{by}", lines)


if __name__ == "__main__":
    sys.exit(main())
