"""Loaded into workers by a test: a process for jobs with crashes ends after a second."""

from datetime import timedelta

from aftercommit.worker import worker

worker.IDLE_WITHOUT_CRASHED = timedelta(seconds=1)
