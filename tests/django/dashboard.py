"""What the tests of the dashboard share."""

from html.parser import HTMLParser

from django.urls import reverse

from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.store.clock import DatabaseNow
from aftercommit.values import NewJob

HOSTILE = "<script>alert('x')</script>{{ 7 }}%s\x1b[31m\u202e\u200f\x00"
ALL = {
    "view": "view_job",
    "arguments": "view_job_arguments",
    "retry": "retry_job",
    "cancel": "cancel_job",
    "delete": "delete_job",
    "enqueue": "enqueue_job",
    "pause": "pause_rule",
    "schedules": "change_schedule",
    "add_schedule": "add_schedule",
    "delete_schedule": "delete_schedule",
    "run": "run_schedule",
    "groups": "cancel_group",
    "audit": "view_auditrecord",
    "findings": "view_storedfinding",
}


def url(name, using="default", **given):
    return reverse(f"aftercommit_dashboard:{name}", kwargs={"using": using, **given})


def add_job(state="ready", *, using="default", **given):
    """Insert a job in a state; return its id."""
    columns = {
        one: given.pop(one)
        for one in ("errors", "result", "run_after", "meta", "tags", "attempts")
        if one in given
    }
    base = {"task_path": "tests.app.tasks.add", "payload": '{"args":[],"kwargs":{}}'}
    (job_id,) = store_for(using).insert([NewJob(**{**base, **given})])
    ended = {"finished_at": DatabaseNow(), "claimable": False}
    columns |= {
        "ready": {},
        "running": {
            "claimable": False,
            "claimed_at": DatabaseNow(),
            "worker_id": job_id,
            "lease_until": DatabaseNow(),
            "token": 1,
        },
        "succeeded": ended,
        "failed": {**ended, "unsuccessful": True},
        "cancelled": {**ended, "unsuccessful": True},
    }[state]
    Job.objects.using(using).filter(pk=job_id).update(state=state, **columns)
    return job_id


class _Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.parts, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.parts.append(data)


def text_of(response):
    """Return what a reader of a page sees, without superfluous space."""
    parser = _Text()
    parser.feed(response.content.decode())
    return " ".join(" ".join(parser.parts).split())


def tags_of(response):
    """Return the tags of a page with their attributes."""
    parser = _Text()
    parser.feed(response.content.decode())
    return parser.tags
