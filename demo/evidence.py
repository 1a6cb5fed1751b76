"""What the table of jobs tells about the stories, beside what visitors see."""

from django.db.models import F, Min

from aftercommit.models import Job
from lengths.models import Page
from processes import Demo
from stories import Observation

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
