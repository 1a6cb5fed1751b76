"""The rooms, over HTTP, with a worker behind them."""

from html.parser import HTMLParser

import httpx
import pytest
from processes import Demo, wait_until
from visitor import Visitor

PAGES = ["/", "/lengths/", "/signup/", "/shop/", "/office/", "/nothing/", "/admin/login/"]


class Inline(HTMLParser):
    """Collects what a strict content security policy would not run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        code = tag == "script" and "src" not in given and "type" not in given
        handlers = [name for name in given if name.startswith("on") or name == "style"]
        if code or tag == "style" or handlers:
            self.found.append(f"{tag} {handlers}")


def page_named(visitor: Visitor, url: str) -> dict[str, str]:
    return next(row for row in visitor.rows("lengths", "pages") if row["url"] == url)


def ended(visitor: Visitor, url: str) -> bool:
    return page_named(visitor, url)["state"] in {"succeeded", "failed"}


def has_mail(visitor: Visitor, address: str) -> bool:
    return address in {row["to"] for row in visitor.rows("signup", "mails")}


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_complete_without_inline_code(visitor, address):
    answer = visitor.get(address)

    assert answer.status_code == (404 if address == "/nothing/" else 200)
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert Inline(answer.text).found == []
    assert answer.text.rstrip().endswith("</html>")


@pytest.mark.parametrize("file", ["demo.css", "live.js", "icon.svg"])
def test_the_files_of_the_pages_are_served(visitor, file):
    assert visitor.get(f"/static/demo/{file}").status_code == 200


def test_pages_that_name_no_icon_get_one_as_well(visitor):
    answer = visitor.get("/favicon.ico")

    assert answer.headers["Location"] == "/static/demo/icon.svg"


def test_another_host_name_gets_nothing(demo):
    answer = httpx.get(demo.origin, headers={"Host": "evil.example"}, trust_env=False)

    assert answer.status_code == 400


@pytest.mark.parametrize("url", ["", "no address", "ftp://host.example/", "javascript:alert(1)"])
def test_what_is_no_web_address_is_not_stored(visitor, url):
    before = addresses(visitor)

    answer = visitor.submit("/lengths/", "/lengths/add/", url=url)

    assert answer.status_code == 422
    assert "errorlist" in answer.text
    assert addresses(visitor) == before


def addresses(visitor):
    """Return the pages without their progress: jobs of other tests may go on meanwhile."""
    return [(row["key"], row["url"]) for row in visitor.rows("lengths", "pages")]


def test_a_form_from_elsewhere_is_refused(demo):
    answer = httpx.post(f"{demo.origin}/lengths/add/", data={"url": demo.origin}, trust_env=False)

    assert answer.status_code == 403


def test_looking_changes_nothing(visitor):
    assert visitor.get("/lengths/add/").status_code == 405
    assert visitor.get("/signup/create/").status_code == 405


def test_a_page_is_measured_although_its_request_commits_a_second_later(demo, visitor):
    url = f"{demo.origin}/examples/page/?measured"

    visitor.measure(url)

    wait_until(lambda: ended(visitor, url), why="the page was measured")
    row = page_named(visitor, url)
    assert row["progress"] == "done"
    assert row["length"] == f"{len(visitor.get(url).content):,} bytes"


def test_a_page_that_is_not_there_is_tried_again_and_the_row_says_why(demo, visitor):
    url = f"{demo.origin}/examples/nothing/"

    visitor.measure(url)

    def tried_once() -> bool:
        return "404 Not Found; will try again" in page_named(visitor, url)["progress"]

    wait_until(tried_once, why="the first run has failed")


def test_a_private_address_is_refused_at_once(visitor):
    url = "http://169.254.169.254/latest/meta-data/"

    visitor.measure(url)

    wait_until(lambda: ended(visitor, url), why="the page was refused")
    assert page_named(visitor, url)["progress"] == (
        "gave up after 1 run: 169.254.169.254 is not public"
    )


def test_markup_in_an_address_stays_text(demo, visitor):
    url = f"{demo.origin}/examples/page/?<script>alert(1)</script>"

    visitor.measure(url)

    assert "<script>alert" not in visitor.get("/lengths/").text


def test_who_is_committed_gets_a_mail(visitor):
    assert visitor.sign_up("committed").status_code == 302

    wait_until(lambda: has_mail(visitor, "committed@example.org"), why="a mail came")
    (account,) = [
        row for row in visitor.rows("signup", "accounts") if row["username"] == "committed"
    ]
    assert account["mail"] == "delivered"


def test_who_is_rolled_back_never_existed(visitor):
    answer = visitor.sign_up("rolledback", fail=True)

    assert answer.status_code == 500
    assert 'id="users-left">0<' in answer.text
    assert 'id="jobs-left">0<' in answer.text
    # A later mail has arrived, so an earlier one would have.
    visitor.sign_up("later")
    wait_until(lambda: has_mail(visitor, "later@example.org"), why="a mail came")
    assert not has_mail(visitor, "rolledback@example.org")


def test_a_name_and_an_address_are_given_once(visitor):
    visitor.sign_up("twice")

    answer = visitor.sign_up("twice")

    assert answer.status_code == 422
    assert answer.text.count("errorlist") == 2


def test_offers_follow_the_price_that_was_saved_in_the_admin(visitor):
    visitor.log_in()

    visitor.change_price(2, "Coffee grinder", "200.00")

    def up_to_date() -> bool:
        rows = visitor.rows("shop", "offers-2")
        return all(row["state"] == "succeeded" for row in rows)

    wait_until(up_to_date, why="the offers were repriced")
    prices = [row["price"] for row in visitor.rows("shop", "offers-2")]
    assert prices == ["€ 200.00", "€ 180.00", "€ 150.00", "€ 100.00"]


def test_the_admin_keeps_to_the_policy_too(visitor):
    visitor.log_in()

    for address in ("/admin/", "/admin/shop/product/1/change/"):
        assert Inline(visitor.get(address).text).found == []


def test_the_code_on_the_page_is_the_code_that_runs(visitor):
    page = visitor.get("/lengths/").text

    assert "def fetch_length(context" in page
    assert "with context.commit():" in page


def test_the_key_of_the_site_is_its_own(demo: Demo):
    key = demo.data / "secret_key"

    assert len(key.read_text()) > 50
    assert key.stat().st_mode & 0o077 == 0
