"""The jobs of this room."""

import time
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx
from django.conf import settings
from django.db.models import F

from aftercommit import BatchCall, Discard, Snooze, task
from office.models import ONE_BY_ONE, TOGETHER, Article, Import, Message, Reading, Report

A_MOMENT = 0.02  # seconds, so that the bar can be seen to move
REFUSED = 429


@task(atomic=True)
def import_line(import_id: int, line: int, name: str, price: str) -> None:
    """Store one article; a line that cannot be read fails alone."""
    time.sleep(A_MOMENT)
    try:
        amount = Decimal(price)
    except InvalidOperation as error:
        raise Discard(f"line {line}: {price!r} is no price") from error
    Article.objects.create(source_id=import_id, line=line, name=name, price=amount)


@task(atomic=True, takes_context=True)
def summarize(context: Any, import_id: int) -> None:
    """Run when all lines have ended, however that was."""
    group = context.group
    summary = f"{group.succeeded} articles, {group.failed} lines refused"
    Import.objects.filter(pk=import_id).update(summary=summary)


@task(cron="0 4 * * *", timezone="Europe/Athens", atomic=True, takes_context=True)
def nightly_report(context: Any) -> None:
    """Count what there is, each night at four; the report and "done" are one commit."""
    text = f"{Article.objects.count()} articles, {Message.objects.count()} messages"
    Report.objects.create(text=text, due=context.schedule and context.schedule.moment)


@task(takes_context=True, rate="20/s", rate_by=("account",), burst=5)
def notify(context: Any, message_id: int, account: str) -> None:
    """Send a message; if the provider refuses, no worker sends for this account for a while."""
    message = Message.objects.filter(pk=message_id)
    answer = httpx.post(
        f"{settings.ORIGIN}/examples/provider/{account}/", timeout=5, trust_env=False
    )
    if answer.status_code == REFUSED:
        message.update(refused=F("refused") + 1)
        wait = timedelta(seconds=float(answer.headers["Retry-After"]))
        context.rate_limited_until(wait)
        raise Snooze(wait)
    answer.raise_for_status()
    with context.commit():
        message.update(sent=F("sent") + 1)


@task(atomic=True)
def write_one(race_id: int, number: int) -> None:
    """Write a row; the row and "done" are one commit."""
    Reading.objects.create(race_id=race_id, way=ONE_BY_ONE, number=number)


@task(atomic=True, batch_size=500, queue_name="together")
def write_many(calls: Sequence[BatchCall]) -> None:
    """Write a row for each of up to 500 jobs; all of it is one commit."""
    Reading.objects.bulk_create(
        Reading(race_id=call.args[0], way=TOGETHER, number=call.args[1]) for call in calls
    )
