"""The three HTTP views of Django Async: health, schedule, and the progress of a group.

JSON in place of Slumber's own form. They answer 403 without a user who may, and never redirect.
``show_health`` and ``show_progress`` are the views without any question who asks, for a project
that has rules of its own.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from types import NoneType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET, require_POST

from aftercommit._compat import InvalidTask
from aftercommit.django_async.calls import USUAL_PRIORITY
from aftercommit.django_async.calls import schedule as schedule_call
from aftercommit.django_async.groups import Group
from aftercommit.django_async.health import health as health_of
from aftercommit.errors import AftercommitError, GroupDoesNotExist
from aftercommit.groups import latest

View = Callable[..., HttpResponse]
ADD_JOB = "aftercommit.add_job"
VIEW_JOB = "aftercommit.view_job"
VIEW_GROUP = "aftercommit.view_group"
WRONG = (AftercommitError, ImproperlyConfigured, InvalidTask, TypeError, ValueError)
PASSED_ON = ("args", "kwargs", "meta", "priority", "group")
EXPECTED: Mapping[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "a text, the path of a function"),
    "args": ((list,), "a list"),
    "kwargs": ((dict,), "an object"),
    "meta": ((dict,), "an object"),
    "priority": ((int,), "a whole number"),
    "group": ((str, NoneType), "a text, or null"),
    "run_after": ((str, NoneType), "a text such as 2026-05-01T12:00:00Z, or null"),
}


def for_users(permission: str) -> Callable[[View], View]:
    """Let only users use a view who are active, and have a permission."""

    def decorate(view: View) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            user = request.user
            if not user.is_authenticated or not user.is_active:
                return _refused("Log in first.", status=403)
            if not user.has_perm(permission):
                return _refused(f"This needs the permission {permission}.", status=403)
            return view(request, *args, **kwargs)

        return checked

    return decorate


@require_GET
def show_health(_request: HttpRequest) -> HttpResponse:
    """Return the health of the queue to anybody."""
    return JsonResponse({"health": health_of()})


@require_POST
@for_users(ADD_JOB)
def schedule(request: HttpRequest) -> HttpResponse:
    """Schedule a function; a form as Django Async has it, or a JSON object of the arguments."""
    try:
        given = _json(request) if request.content_type == "application/json" else _form(request)
        result = schedule_call(**given)
    except WRONG as error:
        return _refused(str(error), status=400)
    return JsonResponse({"job": {"id": result.id}})


@require_GET
def show_progress(_request: HttpRequest, reference: str) -> HttpResponse:
    """Return to anybody how far the latest group with a reference is."""
    try:
        group = Group(latest(reference))
    except GroupDoesNotExist:
        return _refused(f"Cannot find group with reference [{reference}].", status=404)
    found = group.found
    _estimated, remaining, consumed = group.estimate_execution_duration()
    newest = group.latest_executed_job()
    done, total = group.executed(), group.number()
    answer = {
        "id": found.id,
        "reference": found.name,
        "created": found.created_at.isoformat(),
        "latest_job_completed": _moment(None if newest is None else newest.finished_at),
        "total_jobs": total,
        "total_executed_jobs": done,
        "total_unexecuted_jobs": total - done,
        **found.errors(),
        "consumed_seconds": None if consumed is None else int(consumed.total_seconds()),
        "remaining_seconds": 0 if remaining is None else int(remaining.total_seconds()),
    }
    return JsonResponse({"progress": answer} if total else {})


health = for_users(VIEW_JOB)(show_health)
progress = for_users(VIEW_GROUP)(show_progress)


def _form(request: HttpRequest) -> dict[str, Any]:
    given = request.POST
    objects = {name: json.loads(given.get(name) or "{}") for name in ("kwargs", "meta")}
    _check(objects)
    return {
        "function": given.get("name", ""),
        "args": given.getlist("args"),
        **objects,
        "run_after": _read_moment(given.get("run_after")),
        "priority": int(given.get("priority") or USUAL_PRIORITY),
        "group": given.get("group") or None,
    }


def _json(request: HttpRequest) -> dict[str, Any]:
    given = json.loads(request.body)
    if not isinstance(given, dict):
        raise TypeError("Expected a JSON object.")
    _check(given)
    return {
        "function": given.get("name", ""),
        "run_after": _read_moment(given.get("run_after")),
        **{name: given[name] for name in PASSED_ON if name in given},
    }


def _check(given: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for a field of another type than expected; JSON's true is no number."""
    for name in EXPECTED.keys() & given.keys():
        types, words = EXPECTED[name]
        if not isinstance(given[name], types) or isinstance(given[name], bool):
            raise TypeError(f"{name}: expected {words}, got {given[name]!r}.")


def _read_moment(text: Any) -> datetime | None:
    if not text:
        return None
    found = parse_datetime(str(text))
    if found is None:
        raise ValueError(f"run_after: expected a moment such as 2026-05-01T12:00:00Z: {text!r}")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _refused(text: str, *, status: int) -> JsonResponse:
    return JsonResponse({"error": text}, status=status)
