"""An import as a group of jobs, a provider that says 429, a batch beside a plain task."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from aftercommit import group, groups, queues, schedules
from aftercommit.errors import GroupDoesNotExist
from demosite.source import source_of
from office.files import LONGEST_FILE, NotAFile, lines_of, sample
from office.models import Import, Message, Report
from office.race import standings, start_race
from office.tasks import (
    import_line,
    nightly_report,
    notify,
    summarize,
    write_many,
    write_one,
)

SHOWN = 5
ACCOUNTS = ("blue", "green")
AT_ONCE = 12  # messages for each account; the provider takes a few in a time


def start_import(name: str, lines: Sequence[tuple[str, str]]) -> Import:
    """Store the import, and enqueue a job for each line: all of it is committed, or nothing."""
    made = Import.objects.create(name=name)
    calls = [import_line.bind(made.pk, number, *line) for number, line in enumerate(lines, 1)]
    last = summarize.bind(made.pk)
    jobs = group(calls, name=f"import-{made.pk}", then=last, on_failure="run").enqueue()
    made.group_id = jobs.id
    made.save(update_fields=["group_id"])
    return made


@require_POST
def add_import(request: HttpRequest) -> HttpResponse:
    """Import the file, or the sample if there is none."""
    file = request.FILES.get("file")
    if file is None:
        start_import("the sample", sample())
    elif file.size > LONGEST_FILE:
        messages.error(request, "The file is too large.")
    else:
        try:
            start_import(file.name[:100], lines_of(file.read()))
        except NotAFile as error:
            messages.error(request, str(error))
    return redirect("office")


@require_POST
def send(request: HttpRequest) -> HttpResponse:
    """Enqueue messages for each account, in the request's one transaction."""
    for account in ACCOUNTS:
        for _number in range(AT_ONCE):
            message = Message.objects.create(account=account)
            notify.enqueue(message.pk, account)
    return redirect("office")


@require_POST
def race(request: HttpRequest) -> HttpResponse:
    """Enqueue the jobs of both ways, in the request's one transaction."""
    start_race()
    return redirect("office")


@require_POST
def run_report(request: HttpRequest) -> HttpResponse:
    """Run the nightly report now, beside its moments."""
    schedules.run_now(nightly_report.module_path)
    return redirect("office")


@require_safe
@transaction.non_atomic_requests
def show(request: HttpRequest) -> HttpResponse:
    """Show the forms, and how far everything is."""
    context = {
        "imports": _imports(),
        "accounts": _accounts(),
        "paused": _paused(),
        "races": standings(),
        "reports": _reports(),
        "next_run": _next_run(),
        # Other libraries have neither groups nor rates, and their workers do not run our jobs.
        "open": settings.QUEUE == "aftercommit",
        "source": source_of(
            *(start_import, import_line, summarize, notify),
            *(write_one, write_many, nightly_report),
        ),
    }
    return render(request, "office/office.html", context)


@require_safe
@transaction.non_atomic_requests
def rows(request: HttpRequest) -> JsonResponse:
    """Tell how far everything is."""
    return JsonResponse(
        {
            "rows": {
                "imports": _imports(),
                "accounts": _accounts(),
                "races": standings(),
                "reports": _reports(),
            },
            "texts": {"paused": _paused(), "next_run": _next_run()},
        }
    )


def _imports() -> list[dict[str, str]]:
    return [_import_row(one) for one in Import.objects.order_by("-pk")[:SHOWN]]


def _import_row(one: Import) -> dict[str, str]:
    row = partial(dict, key=str(one.pk), name=one.name)
    try:
        jobs = groups.get(str(one.group_id))
    except GroupDoesNotExist:  # its jobs were pruned
        return row(state="succeeded", done="1", said=one.summary)
    left = jobs.estimate
    said = one.summary or f"{jobs.done} of {jobs.total} lines"
    if left is not None and not one.summary:
        said += f", about {left.total_seconds():.0f} s left"
    state = "succeeded" if one.summary else "running"
    return row(state=state, done=f"{jobs.progress:.3f}", said=said)


def _accounts() -> list[dict[str, str]]:
    return [_account_row(account) for account in ACCOUNTS]


def _account_row(account: str) -> dict[str, str]:
    counts: Counter[str] = Counter()
    for sent, refused in Message.objects.filter(account=account).values_list("sent", "refused"):
        counts.update(all=1, sent=min(sent, 1), twice=max(sent - 1, 0), refused=refused)
    waiting = counts["all"] - counts["sent"]
    return {
        "key": account,
        "account": account,
        "state": "running" if waiting else "succeeded",
        "done": f"{counts['sent'] / max(counts['all'], 1):.3f}",
        "said": f"{counts['sent']} of {counts['all']} sent, {counts['twice']} twice",
        "refused": str(counts["refused"]),
    }


def _reports() -> list[dict[str, str]]:
    return [
        {
            "key": str(one.pk),
            "state": "succeeded",
            "due": f"{one.due or one.created:%Y-%m-%d %H:%M:%S} UTC",
            "said": one.text,
        }
        for one in Report.objects.order_by("-pk")[:SHOWN]
    ]


def _next_run() -> str:
    for one in schedules.find():
        if one.name == nightly_report.module_path and one.next_run is not None:
            return f"Next: {one.next_run:%Y-%m-%d %H:%M} UTC."
    return "No worker has noted it yet."


def _paused() -> str:
    found: Any = [one for one in queues.paused_rates() if one.task == notify.module_path]
    if not found:
        return "No account is paused."
    return f"Paused by an answer 429: {sum(one.keys for one in found)} account(s)."
