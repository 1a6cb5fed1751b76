"""A web process that dies right after its commit: ``python -m tests.brokers.web STORY``."""

import os
import signal
import sys

from tests.brokers.stories import STORIES  # isort: skip # sets Django up
from django.db import transaction

view, _now = STORIES[sys.argv[1]]
with transaction.atomic():
    view()
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
