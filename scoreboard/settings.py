"""The site: that of the tests, with the relay for one library, or without."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import TASKS

if library := os.environ.get("SCOREBOARD_RELAY"):
    TASKS["default"]["OPTIONS"]["relay"] = (
        {"rq": {"url": os.environ["SCOREBOARD_URL"]}} if library == "rq" else [library]
    )
    TASKS["default"]["OPTIONS"]["task_modules"] = ("scoreboard.site",)
