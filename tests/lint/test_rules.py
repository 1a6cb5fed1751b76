"""The page of a rule is its test: its bad example is found, its good one is not."""

import re

import pytest

from aftercommit.race_rules import GUARD_RULES, RULES
from tests.docs.pages import ROOT, Block, blocks, prose
from tests.lint.projects import rules_in

PAGES = ROOT / "docs" / "rules"
SHOP = {
    "shop/models.py": """
from django.db import models

class Order(models.Model):
    user = models.ForeignKey("auth.User", models.CASCADE)
    number = models.CharField(max_length=9)

    def confirm(self): ...
""",
    "shop/tasks.py": """
from celery import shared_task

@shared_task
def send_receipt(order_id): ...
""",
}


def examples(rule: str, section: str) -> dict[str, str]:
    """Return the files under a heading of a rule's page, beside those of the shop."""
    page = PAGES / f"{rule}.md"
    lines = page.read_text().splitlines()
    first = lines.index(f"## {section}")
    last = next(n for n, line in enumerate(lines) if n > first and line.startswith("## "))
    found: list[Block] = [one for one in blocks(page) if first < one.line < last]
    assert found, (rule, section)
    return SHOP | {str(one.file): one.code for one in found}


def test_each_rule_has_a_page_and_each_page_a_rule():
    assert {page.stem for page in PAGES.glob("*.md")} == {*RULES, *GUARD_RULES}


@pytest.mark.parametrize("rule", RULES)
def test_the_bad_example_is_found_with_the_severity_of_the_rule(rule, tmp_path):
    found = rules_in(tmp_path, examples(rule, "Bad"))

    assert (rule, RULES[rule].severity) in found


@pytest.mark.parametrize("rule", RULES)
def test_the_good_example_has_no_finding_of_the_rule_nor_a_worse_one(rule, tmp_path):
    found = rules_in(tmp_path, examples(rule, "Good"))

    assert not [one for one, severity in found if one == rule or severity.rank < 2]


@pytest.mark.parametrize("rule", {**RULES, **GUARD_RULES})
def test_the_page_says_what_the_finding_says(rule):
    known, text = (RULES | GUARD_RULES)[rule], prose(PAGES / f"{rule}.md")
    sentence = re.escape(known.what).replace(r"\{subject\}", r"[^.]+")

    assert text.startswith(f"# {rule}: {known.title}\n\n*{known.severity.capitalize()}.* ")
    assert re.search(sentence, text)
    assert known.leads_to in text
    assert text.rstrip().endswith(f"## What to do\n\n{known.fix}")
