"""The list of delivered mails, read from the files of Django's mail backend."""

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend
from signup.mailbox import delivered


@pytest.fixture
def send(tmp_path):
    def send(to: str, message_id: str = "<1@x>") -> None:
        mail = EmailMessage("Welcome", "Hello", "a@b.example", [to])
        mail.extra_headers = {"Message-ID": message_id}
        EmailBackend(file_path=tmp_path).send_messages([mail])

    return send


def test_no_folder_means_no_mail(tmp_path):
    assert delivered(tmp_path / "not there") == []


def test_mails_are_read_in_the_order_of_their_delivery(send, tmp_path):
    send("one@x.example", "<1@x>")
    send("two@x.example", "<2@x>")

    mails = delivered(tmp_path)

    assert sorted(mail.to for mail in mails) == ["one@x.example", "two@x.example"]
    assert {mail.message_id for mail in mails} == {"<1@x>", "<2@x>"}


def test_a_mail_that_was_cut_off_is_not_delivered(send, tmp_path):
    send("whole@x.example")
    (tmp_path / "cut.log").write_bytes(b"To: cut@x.example\nSubject: Wel")

    assert [mail.to for mail in delivered(tmp_path)] == ["whole@x.example"]
