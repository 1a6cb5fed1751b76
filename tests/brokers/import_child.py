"""Imports from RabbitMQ, each time in a process that is ended at one chosen point.

A point is a message that is read, an acknowledgement, the answer to it, and a COMMIT.
"""
# ruff: noqa: E402 - the project is loaded before what needs it

import json
import os
import sys
from dataclasses import asdict, dataclass
from functools import partial

import django

django.setup()

import pika.adapters.blocking_connection
from django.db import connections
from kombu.transport.pyamqp import Channel

from aftercommit.importing import source_for
from aftercommit.importing.calls import Calls
from aftercommit.importing.rabbitmq.source import RabbitMQSource
from aftercommit.importing.run import Import
from aftercommit.importing.values import Place
from aftercommit.store.inbox import Inbox
from tests.brokers.rabbit_senders import URL
from tests.torture.crash_child import Harm, serve

READ, ACKNOWLEDGED, ANSWERED = CALLS = ("basic_get", "basic_ack", "basic_qos")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """What to import, and what is to go wrong."""

    library: str
    queue: str
    point: int | None = None  # None: count the points, do no harm
    when: str = "before"  # or "after"
    how: str = "exit"
    mutant: str = ""


def acknowledge_first():
    """Acknowledge what is taken, before its jobs are committed."""
    real = RabbitMQSource.remove

    def take(self, messages):
        real(self, messages)
        return list(messages)

    RabbitMQSource.take = take
    RabbitMQSource.remove = lambda self, messages: None


def no_record():
    """Insert a job for each message that is read."""
    Inbox.receive = lambda self, **known: True


def forget_first():
    """Forget the keys of messages before they are acknowledged."""
    real = RabbitMQSource.remove

    def remove(self, messages):
        keys = [one.key for one in messages]
        Inbox(alias="default").forget_received(
            keys, consumer=f"aftercommit.importing.{self.name}"
        )
        real(self, messages)

    RabbitMQSource.remove = remove


MUTANTS = {one.__name__: one for one in (acknowledge_first, no_record, forget_first)}


def run(order, say):
    """Import, two messages at a time."""
    if order.mutant:
        MUTANTS[order.mutant]()
    harm = Harm(order, say)
    for channel in (Channel, pika.adapters.blocking_connection.BlockingChannel):
        for method in CALLS:
            trap(harm, channel, method)
    trap(harm, type(connections["default"]), "_commit")
    source = source_for(
        order.library, using="default", place=Place(url=URL, queues=(order.queue,))
    )
    calls = Calls(using="default", source=order.library, names={})
    Import(source, calls, using="default", batch_size=2).run()
    source.close()


def trap(harm, owner, method):
    """Let a method pass by ``harm``."""
    original = getattr(owner, method)

    def trapped(self, *args, **named):
        return harm.at(method, self, partial(original, self, *args, **named))

    setattr(owner, method, trapped)


def main():
    """Serve orders until there are no more."""
    connections.close_all()
    for line in sys.stdin:
        answer = serve(ImportOrder(**json.loads(line)), run)
        print(json.dumps(asdict(answer)), flush=True)


if __name__ == "__main__":
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    main()
