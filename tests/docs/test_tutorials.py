"""The tutorials work as written, each in a project of its own."""

import django
import pytest
from django.conf import settings

from tests.docs.pages import ROOT, blocks
from tests.docs.test_quickstart import add, follow, run

SHOP = ROOT / "docs" / "tutorials" / "shop-with-payments.md"
LOOK = """
from django.contrib.auth.models import User
from django.test import Client

client = Client(SERVER_NAME="localhost", headers={"authorization": "Bearer change-me"})
assert b"aftercommit_jobs" in client.get("/metrics").content
client.force_login(User.objects.create_superuser("ann"))
for page in ("/jobs/", "/jobs/default/jobs/", "/admin/aftercommit/job/"):
    assert client.get(page, follow=True).status_code == 200, page
"""


@pytest.mark.skipif(settings.DATABASE_KIND != "sqlite", reason="the page is about SQLite")
@pytest.mark.skipif(django.VERSION < (6, 1), reason="the page has MAILERS, of Django 6.1")
def test_the_shop_with_payments_works_as_written(tmp_path):
    for block in blocks(SHOP):
        if block.file:
            add(block, tmp_path, "mysite")
        elif block.language == "console":
            follow(block, tmp_path)

    (tmp_path / "look.py").write_text(LOOK)
    run("python manage.py shell -v 0 < look.py", tmp_path)
