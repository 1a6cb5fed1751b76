"""What the site of the documentation adds to the pages, which know nothing of it."""

import ast
import importlib.util

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT

DOCS = ROOT / "docs"
SRC = ROOT / "src" / "aftercommit"
if not DOCS.exists():
    pytest.skip("the pages are not in the source distribution", allow_module_level=True)


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("site_pages", DOCS / "_site/markdown_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rewritten(site, name, text):
    source = [text]
    site.rewrite(None, name, source)
    return source[0]


def test_every_page_has_one_place_in_the_tree(site):
    placed = [name for _, entries in site.contents() for names in entries for name in names]

    there = {
        str(page.relative_to(DOCS).with_suffix(""))
        for page in pages.pages()
        if DOCS in page.parents
    }
    assert sorted(placed) == sorted(there - {"index"})


def test_a_comment_is_left_out_and_lines_keep_their_numbers(site):
    text = rewritten(site, "quickstart", "# A\n\n<!-- check\nassert True\n-->\n\nlast\n")

    assert "assert" not in text
    assert text.splitlines().index("last") == 6


def test_a_link_to_a_file_beside_the_documentation_leads_to_the_repository(site):
    text = rewritten(site, "how-to/metrics", "[a](../../LICENSE)")

    assert text == f"[a]({site.FILES}/LICENSE)"


def test_a_file_that_people_copy_is_fetched_from_the_site(site):
    text = rewritten(site, "how-to/metrics", "| [`a`](../../contrib/grafana/aftercommit.json) |")

    assert text == "| {download}`a <../../contrib/grafana/aftercommit.json>` |"


def test_links_between_pages_and_code_stay_as_they_are(site):
    text = (
        "[a](../quickstart.md#a-job) [b](https://a.example)\n\n```text\n[c](../../LICENSE)\n```\n"
    )

    assert rewritten(site, "how-to/metrics", text) == text


def test_a_page_of_a_module_has_each_public_name(site):
    text = rewritten(site, "reference/api/queues", "<!-- api aftercommit.queues -->\n")

    assert ".. autofunction:: pause\n" in text
    assert ".. autoclass:: Paused\n" in text


def test_every_module_that_says_what_is_public_has_a_page(site):
    found = {
        match
        for page in DOCS.glob("reference/api/*.md")
        for match in site.API.findall(page.read_text())
    }

    declared = {
        ".".join(("aftercommit", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for path in [*SRC.glob("*.py"), *SRC.glob("*/__init__.py")]
        if any(
            isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
            for node in ast.parse(path.read_text()).body
        )
    }
    assert declared - {"aftercommit._compat", "aftercommit.models"} <= found
