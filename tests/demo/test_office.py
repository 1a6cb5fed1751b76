"""The back office: an import as a group, a provider that says 429, a task beside a batch."""

import pytest
from office_stories import importing_a_file, racing, running_the_report, sending_messages


@pytest.mark.parametrize("play", [importing_a_file, running_the_report, sending_messages, racing])
def test_what_the_back_office_promises_holds(demo, play):
    observations = play(demo)

    assert [one for one in observations if not one.held] == []


def test_a_file_of_ones_own_is_imported(visitor):
    answer = upload(visitor, b"Tea,4.20\nCoffee,5\n")

    assert answer.status_code == 302
    assert visitor.rows("office", "imports")[0]["name"] == "list.csv"


@pytest.mark.parametrize("content", [b"", b"only a name\n", b"\xff,1\n", b"x,1\n" * 2001])
def test_what_is_no_such_file_is_refused(visitor, content):
    before = visitor.rows("office", "imports")

    upload(visitor, content)

    assert "Expected 1 to" in (page := visitor.get("/office/").text) or "no text" in page
    assert [one["key"] for one in visitor.rows("office", "imports")] == [
        one["key"] for one in before
    ]


def upload(visitor, content):
    visitor.get("/office/").raise_for_status()
    token = visitor._http.cookies["csrftoken"]
    return visitor._http.post(
        "/office/import/",
        data={"csrfmiddlewaretoken": token},
        files={"file": ("list.csv", content, "text/csv")},
    )
