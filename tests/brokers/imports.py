"""What the tests of importers share, whichever broker holds the messages."""

from datetime import UTC, datetime, timedelta

from django.core.management import call_command

from aftercommit.importing import source_for
from aftercommit.importing.calls import Calls
from aftercommit.importing.run import Import
from aftercommit.models import Job

LATER = datetime(2099, 5, 1, 12, tzinfo=UTC)


def importing(library, *, batch_size=500):
    """Return the source of what a library has queued, and a run that imports it."""
    source = source_for(library.name, using="default", place=library.place)
    calls = Calls(using="default", source=library.name, names={})
    return source, Import(source, calls, using="default", batch_size=batch_size)


def run(capsys, library, *words):
    """Return the exit status, what is said, and what is complained about."""
    url = library.place.url
    status = 0
    try:
        call_command("aftercommit", "import", library.name, "--url", url, *library.words, *words)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    return status, said.out.strip(), said.err.strip()


def check_order(library, capsys):
    """See that two messages and one for later become jobs once, in their order, and run."""
    library.send("one")
    library.send("two", "words")
    library.send("three", at=LATER)

    status, out, err = run(capsys, library, "--batch-size", "2")

    assert (status, err) == (0, "")
    assert out.endswith(f"3 messages of {library.name} were imported.")
    jobs = list(Job.objects.order_by("id"))
    due = [job for job in jobs if job.args != ["three"]]
    assert [job.args for job in due] == [["one"], ["two", "words"]]
    (late,) = (job for job in jobs if job.args == ["three"])
    assert abs(late.run_after - LATER) < timedelta(minutes=1)
    assert {job.meta["imported_from"] for job in jobs} == {library.name}
    assert run(capsys, library)[1].endswith(f"0 messages of {library.name} were imported.")
    call_command("flush_queue")
    due[1].refresh_from_db()
    assert due[1].return_value == "two words"
