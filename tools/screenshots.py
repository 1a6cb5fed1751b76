"""Takes the pictures of the dashboard that the documentation shows.

    make screenshots            every page, light, dark and on a phone, to docs/images/dashboard/
    make screenshots ARGS=/tmp  elsewhere, to look at them

It needs Chromium with chromedriver, and what the tests need. The jobs are those of
``tests/dashboard/shop.py``, in a database that is deleted afterwards.
"""

import base64
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

TARGET = Path(__file__).parent.parent / "docs" / "images" / "dashboard"
# Width and height that are seen at first, colours, how large a point is drawn, highest picture.
VIEWS = {
    "light": (1280, 800, "light", 0.8, 1100),
    "dark": (1280, 800, "dark", 0.8, 1100),
    "phone": (390, 800, "light", 0.9, 900),
}
QUALITY = 62


def main(target: Path) -> None:
    """Make the pictures, and say how large they are."""
    os.environ.setdefault("AFTERCOMMIT_DB", "sqlite")
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    target.mkdir(parents=True, exist_ok=True)
    with _server() as origin, tempfile.TemporaryDirectory() as place:
        _take_all(origin, Path(place), target)
    found = sorted(target.glob("*.webp"))
    print(f"{len(found)} pictures, {sum(one.stat().st_size for one in found) / 1e6:.2f} MB")


@contextmanager
def _server() -> Iterator[str]:
    """Serve the site of the tests, with tables of its own; yield where."""
    # Needs Django's settings.
    from django.conf import settings  # noqa: PLC0415
    from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: PLC0415
    from django.test.testcases import LiveServerThread  # noqa: PLC0415
    from django.test.utils import setup_databases, teardown_databases  # noqa: PLC0415

    made = setup_databases(verbosity=0, interactive=False)
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    try:
        yield f"http://127.0.0.1:{thread.port}"
    finally:
        thread.terminate()
        teardown_databases(made, verbosity=0)


def _take_all(origin: str, place: Path, target: Path) -> None:
    from tests.browsers import open_browser  # noqa: PLC0415
    from tests.dashboard import shop  # noqa: PLC0415

    made = shop.fill_for_show()
    with open_browser(place) as browser:
        _log_in(browser, origin)
        for view in VIEWS:
            for name, address in shop.shown_pages(made):
                browser.get(f"{origin}{address}")
                if "Background jobs" not in browser.title:
                    raise SystemExit(f"{address} is no page of the dashboard: {browser.title}")
                _take(browser, view, target / f"{name}-{view}.webp")


def _log_in(browser: Any, origin: str) -> None:
    from django.conf import settings  # noqa: PLC0415
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    browser.get(f"{origin}/static/aftercommit/dashboard.css")
    name = settings.SESSION_COOKIE_NAME
    browser.add_cookie({"name": name, "value": client.cookies[name].value, "path": "/"})


def _take(browser: Any, view: str, file: Path) -> None:
    width, height, colours, scale, highest = VIEWS[view]

    def measure(height: int) -> None:
        metrics = {
            "width": width,
            "height": height,
            "deviceScaleFactor": scale,
            "mobile": view == "phone",
        }
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    measure(height)
    whole = browser.execute_script("return document.documentElement.scrollHeight")
    measure(min(whole, highest))
    taken = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY}
    )
    file.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
