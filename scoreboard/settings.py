"""The site: that of the tests, with the relay for one library, another outbox, or neither."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, TASKS

if library := os.environ.get("SCOREBOARD_RELAY"):
    needed = {
        "rq": {"url": os.environ["SCOREBOARD_URL"]},
        "huey": {"instance": "scoreboard.site.huey"},
    }
    TASKS["default"]["OPTIONS"]["relay"] = {library: needed.get(library, {})}
    TASKS["default"]["OPTIONS"]["task_modules"] = ("scoreboard.site",)

if os.environ.get("SCOREBOARD_OUTBOX"):
    INSTALLED_APPS.append("django_celery_outbox")
    CELERY_OUTBOX_APP = "scoreboard.site.app"
