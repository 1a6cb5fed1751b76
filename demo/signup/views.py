"""Create an account; a job sends the welcome mail, if the account was committed."""

import time
from collections import Counter

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from aftercommit.models import Job
from demosite.queues import sending, task_of
from demosite.source import source_of
from signup.forms import SignUpForm
from signup.mailbox import Mail, delivered

SHOWN = 20
send_welcome_mail = task_of("signup", "send_welcome_mail")


class RequestFailed(Exception):
    """Something went wrong in the request, after the job was enqueued."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


@transaction.atomic
def create_account(username: str, email: str, *, fail: bool) -> None:
    """Create the user and enqueue the mail: both are committed, or neither."""
    user = User.objects.create_user(username, email)
    result = sending(send_welcome_mail)(user.pk)
    time.sleep(1)  # the story's second: elsewhere the task starts now and finds no user
    if fail:
        raise RequestFailed(result.id)


@require_POST
@transaction.non_atomic_requests  # the transaction is create_account's
def sign_up(request: HttpRequest) -> HttpResponse:
    """Answer the form."""
    form = SignUpForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        create_account(**form.cleaned_data)
    except RequestFailed as failure:
        return _what_is_left(request, form.cleaned_data["username"], failure.job_id)
    messages.success(request, f"{form.cleaned_data['username']} is committed.")
    return redirect("signup")


@require_safe
@transaction.non_atomic_requests
def show(request: HttpRequest) -> HttpResponse:
    """Show the form, the accounts and the mails."""
    return _page(request, SignUpForm())


@require_safe
@transaction.non_atomic_requests
def rows(request: HttpRequest) -> JsonResponse:
    """Tell which accounts there are and which mails were delivered."""
    mails = delivered(settings.EMAIL_FILE_PATH)
    return JsonResponse({"rows": {"accounts": _accounts(mails), "mails": _letters(mails)}})


def _page(request: HttpRequest, form: SignUpForm, *, status: int = 200) -> HttpResponse:
    mails = delivered(settings.EMAIL_FILE_PATH)
    context = {
        "form": form,
        "accounts": _accounts(mails),
        "mails": _letters(mails),
        "source": source_of(create_account, send_welcome_mail),
    }
    return render(request, "signup/signup.html", context, status=status)


def _what_is_left(request: HttpRequest, username: str, job_id: str) -> HttpResponse:
    context = {
        "username": username,
        "job_id": job_id,
        "users": User.objects.filter(username=username).count(),
        "jobs": Job.objects.filter(pk=job_id).count(),
    }
    return render(request, "signup/failed.html", context, status=500)


def _accounts(mails: list[Mail]) -> list[dict[str, str]]:
    mailed = {mail.to for mail in mails}
    return [
        {
            "key": str(user.pk),
            "state": "succeeded" if user.email in mailed else "ready",
            "username": user.username,
            "email": user.email,
            "mail": "delivered" if user.email in mailed else "on its way",
        }
        for user in User.objects.filter(is_staff=False).order_by("-pk")[:SHOWN]
    ]


def _letters(mails: list[Mail]) -> list[dict[str, str]]:
    """List each mail once; copies of a run that was killed share its Message-ID."""
    copies = Counter(mails)
    return [
        {
            "key": mail.message_id,
            "to": mail.to,
            "subject": mail.subject,
            "message_id": mail.message_id,
            "copies": str(copies[mail]),
        }
        for mail in reversed(copies)
    ][:SHOWN]
