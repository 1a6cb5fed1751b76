"""The Content-Security-Policy of the pages: our script, our style, and nothing inline."""

from urllib.parse import urlsplit

from django.http import HttpResponseBase
from django.templatetags.static import static

STYLE, SCRIPT = "aftercommit/dashboard.css", "aftercommit/dashboard.js"


def protect(response: HttpResponseBase) -> HttpResponseBase:
    """Set the headers of a page; those that a project has set for all pages do not add to it."""
    response["Content-Security-Policy"] = policy()
    response["X-Content-Type-Options"] = "nosniff"
    response["Referrer-Policy"] = "same-origin"
    response["Cache-Control"] = "private, no-store"
    return response


def policy() -> str:
    """Return the policy; static files may be on a host of their own."""
    parts = urlsplit(static(STYLE))
    files = f"{parts.scheme or 'https'}://{parts.netloc}" if parts.netloc else "'self'"
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {files}",
            f"script-src {files}",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'self'",
        )
    )
