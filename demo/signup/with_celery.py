"""The job of this room as a task of Celery; nothing here knows of aftercommit."""

from celery import current_task, shared_task
from django.contrib.auth.models import User
from django.core.mail import EmailMessage


@shared_task
def send_welcome_mail(user_id: int) -> None:
    """Send a mail; if a message comes twice, both mails have the same Message-ID."""
    user = User.objects.get(pk=user_id)
    EmailMessage(
        subject="Welcome",
        body=f"Hello {user.username}, your account is there: it was committed first.",
        to=[user.email],
        headers={"Message-ID": f"<{current_task.request.id}@aftercommit.example>"},
    ).send()
