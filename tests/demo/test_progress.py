"""The words that the list of pages has for a job."""

import json

import pytest
from lengths.progress import WORKER_DIED, progress_of

from aftercommit.models import Job

NOT_FOUND = {
    "exception_class_path": "lengths.fetch.FetchFailed",
    "traceback": "Traceback …\n  …\nlengths.fetch.FetchFailed: 404 Not Found\n",
    "worker_id": "None",
}
DIED = {
    "exception_class_path": WORKER_DIED,
    "traceback": "The worker process died.",
    "worker_id": "None",
}


@pytest.mark.parametrize(
    ("state", "attempts", "crashes", "errors", "words"),
    [
        ("ready", 0, 0, [], "waiting"),
        ("ready", 1, 0, [NOT_FOUND], "404 Not Found; will try again"),
        ("ready", 1, 1, [DIED], "will run again (its worker died once)"),
        ("running", 1, 0, [], "fetching, run 1"),
        ("running", 3, 2, [DIED, DIED], "fetching, run 3 (its worker died 2 times)"),
        ("succeeded", 1, 0, [], "done"),
        ("succeeded", 2, 1, [DIED], "done in run 2 (its worker died once)"),
        ("failed", 3, 0, [NOT_FOUND], "gave up after 3 runs: 404 Not Found"),
        ("failed", 1, 0, [], "gave up after 1 run: no error was recorded"),
    ],
)
def test_each_state_has_its_words(state, attempts, crashes, errors, words):
    job = Job(state=state, attempts=attempts, crashes=crashes, errors=json.dumps(errors))

    assert progress_of(job) == words
