"""Publish, upload and search on a Wagtail site; its tasks are run by a worker of ours."""

import subprocess
import sys
from pathlib import Path

import django

django.setup()

from django.core.files.base import ContentFile  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402
from wagtail.documents.models import Document  # noqa: E402
from wagtail.models import Page, ReferenceIndex  # noqa: E402
from wagtail_site.home.models import TextPage  # noqa: E402

from aftercommit.models import Job  # noqa: E402


def main() -> None:
    """Play, and compare what is there."""
    setup_test_environment()
    call_command("migrate", verbosity=0)
    work()
    document = upload()
    publish_and_search(document)
    delete(document)
    roll_back(document)
    ended = set(Job.objects.values_list("state", "task_path"))
    print(sorted(ended))
    assert {state for state, _path in ended} == {"succeeded"}


def upload() -> Document:
    """Upload a document."""
    document = Document(title="Handbook")
    document.file.save("handbook.txt", ContentFile(b"how to", name="handbook.txt"))
    assert Path(document.file.path).exists()
    return document


def publish_and_search(document: Document) -> None:
    """Publish a page; tasks make it be found, and note to what it refers."""
    page = publish(document)
    assert (found("nightingale"), references(document)) == ([], [])
    work()
    assert (found("nightingale"), references(document)) == ([page.pk], [page.pk])


def delete(document: Document) -> None:
    """Delete a document, and see that a task deletes its file."""
    file = Path(document.file.path)
    with transaction.atomic():
        Document.objects.get(pk=document.pk).delete()
    assert file.exists(), "it is deleted by a task"
    work()
    assert not file.exists()


def roll_back(document: Document) -> None:
    """Publish in a transaction that is rolled back: no task is left of it."""
    try:
        with transaction.atomic():
            publish(document, title="Never there")
            assert Job.objects.filter(state="ready").exists()
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert not Job.objects.filter(state="ready").exists()
    assert not Page.objects.filter(title="Never there").exists()


def publish(document: Document, *, title: str = "Birds") -> TextPage:
    """Publish a page whose text refers to a document."""
    link = f'<a linktype="document" id="{document.pk}">nightingale</a>'
    page = Page.get_first_root_node().add_child(
        instance=TextPage(title=title, body=f"<p>The {link} sings.</p>", live=False)
    )
    page.save_revision().publish()
    return page


def found(word: str) -> list[int]:
    """Search for a page."""
    return [page.pk for page in TextPage.objects.live().search(word)]


def references(document: Document) -> list[int]:
    """Return the pages that refer to a document, by the index that tasks keep."""
    found = ReferenceIndex.get_references_to(document)
    return sorted({int(one.object_id) for one in found})


def work() -> None:
    """Run what is due, in a worker of its own."""
    command = [sys.executable, "-m", "django", "aftercommit", "worker", "--drain"]
    subprocess.run(command, check=True, timeout=120)


if __name__ == "__main__":
    main()
