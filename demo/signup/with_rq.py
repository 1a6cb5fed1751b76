"""The job of this room as a job of django-rq; nothing here knows of aftercommit."""

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django_rq import job
from rq import get_current_job


@job(settings.PREFIX)
def send_welcome_mail(user_id: int) -> None:
    """Send a mail; if a message comes twice, both mails have the same Message-ID."""
    user = User.objects.get(pk=user_id)
    EmailMessage(
        subject="Welcome",
        body=f"Hello {user.username}, your account is there: it was committed first.",
        to=[user.email],
        headers={"Message-ID": f"<{get_current_job().id}@aftercommit.example>"},
    ).send()
