"""The job of this room."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.mail import EmailMessage

from aftercommit import task


@task(takes_context=True, queue_name="mail", timeout=timedelta(minutes=1))
def send_welcome_mail(context: Any, user_id: int) -> None:
    """Send a mail; if a crash makes it two, both have the same Message-ID."""
    user = User.objects.get(pk=user_id)
    EmailMessage(
        subject="Welcome",
        body=f"Hello {user.username}, your account is there: it was committed first.",
        to=[user.email],
        headers={"Message-ID": f"<{context.job_id}@aftercommit.example>"},
    ).send()
