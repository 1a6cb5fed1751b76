"""What the table of jobs tells about the stories, beside what visitors see."""

from django.db.models import F, Min

from aftercommit.models import Job
from lengths.models import Page
from processes import Demo
from stories import Observation, compare

OPEN = 1.0  # seconds that each request keeps its transaction open after enqueuing
FETCH, MAIL, OFFERS = (
    "lengths.tasks.fetch_length",
    "signup.tasks.send_welcome_mail",
    "shop.tasks.update_offers",
)


def waiting_for_commits(demo: Demo) -> list[Observation]:
    """Show that the window was open each time, and that no job started inside it."""
    return [
        _shortest_wait("URL lengths", FETCH),
        _shortest_wait("Sign up", MAIL),
        _shortest_wait("Admin", OFFERS),
    ]


def _shortest_wait(story: str, task_path: str) -> Observation:
    # Since the first visitor: the jobs of the first products waited for a worker.
    opening = Page.objects.earliest("pk").created
    jobs = Job.objects.filter(task_path=task_path, enqueued_at__gt=opening)
    shortest = jobs.aggregate(wait=Min(F("started_at") - F("enqueued_at")))["wait"]
    return Observation(
        story=story,
        what=f"shortest of {jobs.count()} waits from enqueuing to running",
        expected=f"{OPEN:g} s or more",
        observed=f"{shortest.total_seconds():.2f} s",
        held=shortest.total_seconds() >= OPEN,
    )


def relayed_after_commits(demo: Demo) -> list[Observation]:
    """Show that the messages went through the table, and that no task missed its row."""
    messages = Job.objects.filter(queue=f"relay.{demo.queue}")
    opening = Page.objects.earliest("pk").created
    sent = messages.filter(enqueued_at__gt=opening, state=Job.State.SUCCEEDED)
    shortest = sent.aggregate(wait=Min(F("started_at") - F("enqueued_at")))["wait"]
    log = demo.worker.log.read_text(errors="replace")
    return [
        Observation(
            story="Relay",
            what=f"shortest of {sent.count()} waits from sending to publishing",
            expected=f"{OPEN:g} s or more",
            observed=f"{shortest.total_seconds():.2f} s",
            held=shortest.total_seconds() >= OPEN,
        ),
        compare(
            "Relay",
            "messages that are not published",
            expected="0",
            observed=str(messages.exclude(state=Job.State.SUCCEEDED).count()),
        ),
        compare(
            "Relay",
            "tasks that found no row, by the worker's log",
            expected="0",
            observed=str(log.count("DoesNotExist")),
        ),
    ]
