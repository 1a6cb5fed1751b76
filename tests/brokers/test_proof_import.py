"""The import from RabbitMQ is killed at each point of its road: nothing is lost or doubled."""

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from aftercommit.models import Job, Received
from tests.brokers.imports import importing
from tests.brokers.rabbit_senders import SENDERS, imported
from tests.torture.orders import DIED
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("transactional_db"),
]

ROOT = Path(__file__).parents[2]


class Storm:
    """Children that import, and die at a point; then a run that does what is left."""

    words = ("one", "two", "three")

    def __init__(self, library, process):
        self._library = library
        self._process = process
        self.harmed = Counter()  # points at which harm was done
        self.faults = []

    def child(self, **order):
        """Let a child import; return what it answers."""
        order |= {"library": self._library.name, "queue": self._library.queue}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def strike_everywhere(self, mutant=""):
        """Do harm before and after each point; a mutant has been noticed by its first fault."""
        self.fill()
        quiet = self.child(mutant=mutant)
        assert quiet["status"] == 0
        self.judge("without harm")
        points = range(len(quiet["points"]))
        for point, when in ((one, when) for one in points for when in ("before", "after")):
            if mutant and self.faults:
                return
            self.fill()
            answer = self.child(point=point, when=when, mutant=mutant)
            assert answer["status"] == DIED
            self.harmed[answer["harm"]] += 1
            self.heal(answer, when)
            self.judge(f"{when} {answer['harm']} (point {point})")

    def fill(self):
        """Begin anew, with messages."""
        Job.objects.all().delete()
        Received.objects.all().delete()
        self._library.channel.queue_purge(self._library.queue)
        for word in self.words:
            self._library.send(word)

    def heal(self, answer, when):
        """Import what RabbitMQ has put back."""
        acknowledged = answer["points"].count("basic_ack")
        if (answer["harm"], when) == ("basic_ack", "before"):
            acknowledged -= 1
        left = len(self.words) - acknowledged
        wait_until(lambda: self._library.length() == left, why=f"{left} are put back")
        source, healthy = importing(self._library)
        healthy.run()
        source.close()

    def judge(self, when):
        """Note what is not there exactly once."""
        found = imported()
        if found != Counter(self.words) or self._library.length():
            self.faults.append(f"{when}: {dict(found)}")


@contextmanager
def storm(library):
    """Start the process whose children import."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.brokers.import_child"],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Storm(library, process)
        process.stdin.close()


@pytest.mark.parametrize("name", sorted(SENDERS))
def test_each_message_is_one_job_wherever_the_import_is_killed(name, rabbit_senders):
    with storm(rabbit_senders(name)) as children:
        children.strike_everywhere()

    assert children.faults == []
    assert set(children.harmed) == {"basic_get", "basic_ack", "basic_qos", "_commit"}


@pytest.mark.parametrize("mutant", ["acknowledge_first", "no_record", "forget_first"])
def test_the_storm_notices_mutants(mutant, rabbit_senders):
    with storm(rabbit_senders("AsCelery")) as children:
        children.strike_everywhere(mutant)

    assert children.faults
