"""Play the demo's stories without a browser and say what was observed.

python demo/check.py [--db sqlite|postgres] [--queue celery|rq]

It brings its own database, data directory and ports, so it disturbs no running demo,
and kills its worker with -9 in the middle. The exit status is 0 if everything held.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

import django

from office_stories import (
    importing_a_file,
    racing,
    running_the_report,
    sending_messages,
)
from processes import Demo, DemoFailed, any_free_port
from screen import say, table
from servers import KINDS, add_queue, forget_in_redis, look_for_redis, variables_for
from stories import Observation, compare, editing_prices, measuring, signing_up, url_lengths

Play = Callable[[Demo], list[Observation]]
HEAD = ("Story", "What", "Expected", "Observed", "Held")


def main() -> int:
    """Play everything; return the exit status."""
    parser = argparse.ArgumentParser(description="Check what the demo promises.")
    parser.add_argument("--db", choices=KINDS, default=os.environ.get("DB", "sqlite"))
    add_queue(parser)
    options = parser.parse_args()
    kind = options.db
    name = f"aftercommit_check_{os.getpid()}"
    os.environ["DEMO_PREFIX"] = name
    brought = {"name": name, "throw_away": True}
    with tempfile.TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder:
        data = Path(folder, "data")
        try:
            look_for_redis(options.queue)
            with variables_for(kind, data=data, **brought) as variables:
                observations = _play(data, kind, variables, options.queue)
        except DemoFailed as failure:
            say(str(failure))
            return 1
        finally:
            if options.queue != "aftercommit":
                forget_in_redis(name)
    on_what = kind if options.queue == "aftercommit" else f"{kind} with {options.queue}"
    return int(not _report(observations, on_what))


def _report(observations: list[Observation], on_what: str) -> bool:
    """Show the table; tell whether all of it held."""
    stories = list(dict.fromkeys(seen.story for seen in observations))
    observations.sort(key=lambda seen: stories.index(seen.story))
    rows = [seen.row for seen in observations]
    held = sum(seen.held for seen in observations)
    table(f"aftercommit demo on {on_what}: {held} of {len(rows)} held", HEAD, rows)
    return held == len(rows)


def _play(data: Path, kind: str, variables: Mapping[str, str], queue: str) -> list[Observation]:
    port = any_free_port()
    demo = Demo(data=data, database=kind, variables=variables, port=port, queue=queue)
    os.environ.update(demo.environment)
    django.setup()
    # Now that there are settings: these two look into the tables.
    killing_the_worker = import_module("crash").killing_the_worker
    evidence = import_module("evidence")
    plays: list[Play] = [url_lengths, signing_up, editing_prices]
    if queue == "aftercommit":
        plays += [importing_a_file, running_the_report, sending_messages, racing]
        plays += [killing_the_worker, evidence.waiting_for_commits]
    else:
        plays = [measuring, *plays[1:], evidence.relayed_after_commits]
    demo.prepare()
    observations = []
    with demo.running():
        for play in plays:
            say(f"Playing: {play.__name__.replace('_', ' ')} …")
            try:
                observations += play(demo)
            except DemoFailed as failure:
                observations.append(_broken_off(play.__name__, failure))
    return [*observations, _farewell(demo)]


def _broken_off(play: str, failure: DemoFailed) -> Observation:
    return compare(play, "is played to its end", expected="yes", observed=str(failure))


def _farewell(demo: Demo) -> Observation:
    return compare(
        "Stop",
        "exit status of the worker after SIGTERM",
        expected="0",
        observed=str(demo.worker.returncode),
    )


if __name__ == "__main__":
    sys.exit(main())
