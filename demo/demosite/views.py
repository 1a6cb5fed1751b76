"""The entrance hall."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
@transaction.non_atomic_requests
def home(request: HttpRequest) -> HttpResponse:
    """Show the four rooms."""
    return render(request, "home.html")
