"""Keys of secret arguments: rotation, missing keys, tampering, and the keys of calls."""

import json
import sys
from uuid import UUID, uuid4

import pytest
from django.core.management import call_command
from django.utils import timezone

from aftercommit import Secret
from aftercommit.errors import ConfigurationError
from aftercommit.models import Blocked, Dependency, Job, State
from aftercommit.options.conf import BackendOptions
from aftercommit.options.secret_keys import SecretKey
from aftercommit.windows.checks import project
from aftercommit.windows.checks.project import check_project
from aftercommit.windows.checks.tasks import check_queued_secrets
from aftercommit.windows.doctor.served import secrets
from tests.worker.rig import commits
from tests.worker.secret_tasks import (
    CANARY,
    NEW,
    OLD,
    alike,
    charge,
    got,
    keys,
    pay,
    replaced,
    run,
)

pytestmark = commits
__all__ = ["keys"]  # a fixture


def test_the_keys_are_not_shown(keys):
    options = BackendOptions(secret_keys=[OLD])
    wrong = "not-a-key"

    assert OLD not in repr(options) + repr(options.secret_keys)
    for given in ([wrong], [OLD[:-8]], [5], wrong, [OLD, OLD]):
        with pytest.raises(ConfigurationError, match="secret_keys") as raised:
            BackendOptions(secret_keys=given)
        assert wrong not in str(raised.value)
        assert OLD[:-8] not in str(raised.value)


# ---- missing and changed keys ----------------------------------------------------------------


def test_without_a_key_nothing_is_enqueued(keys):
    keys()

    with pytest.raises(ConfigurationError, match="the backend has no key to encrypt it with"):
        charge.enqueue(7, Secret(CANARY))
    assert not Job.objects.exists()


def test_without_cryptography_nothing_is_enqueued_and_everything_else_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "aftercommit.enqueue.cipher", None)
    pay.enqueue(1)

    with pytest.raises(ConfigurationError, match=r"pip install 'aftercommit\[secrets\]'"):
        charge.enqueue(7, Secret(CANARY))
    assert Job.objects.count() == 1


def test_a_missing_key_fails_the_job_with_that_sentence_and_loses_nothing(keys):
    job_id = charge.enqueue(7, Secret(CANARY)).id
    keys(NEW)

    run()

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.FAILED, 1)
    (error,) = job.error_list
    assert error["exception_class_path"] == "aftercommit.errors.SecretsUnreadable"
    assert "OPTIONS['secret_keys'] does not have their key, " in error["traceback"]

    keys(NEW, OLD)
    call_command("aftercommit", "retry", "--state", "failed")
    run()
    assert got == [(7, Secret(CANARY), None)]


def test_the_first_key_encrypts_and_all_decrypt(keys):
    charge.enqueue(1, Secret("old"))
    keys(NEW, OLD)
    charge.enqueue(2, Secret("new"))
    ids = {json.loads(job.payload)["secrets"].split(".")[1] for job in Job.objects.all()}
    assert len(ids) == 2

    run()

    assert got == [(1, Secret("old"), None), (2, Secret("new"), None)]


def test_queued_secrets_are_encrypted_anew_with_the_first_key(keys, capsys):
    charge.enqueue(1, Secret("one"))
    failed = charge.enqueue("refused", Secret("two")).id
    done = charge.enqueue(3, Secret("three"))
    pay.enqueue({"secrets": "1.a.b"})
    Job.objects.filter(pk=failed).update(
        state="failed", unsuccessful=True, claimable=False, finished_at=timezone.now()
    )
    Job.objects.filter(pk=done.id).update(
        state="succeeded", claimable=False, finished_at=timezone.now()
    )
    keys(NEW, OLD)

    call_command("aftercommit", "secrets", "reencrypt")
    call_command("aftercommit", "secrets", "reencrypt", "--json")

    said, again = capsys.readouterr().out.splitlines()
    assert said == "default: 2 jobs encrypted with the first key."
    assert json.loads(again) == {"default": {"changed": 0, "unreadable": 0}}
    keys(NEW)
    run()
    call_command("aftercommit", "retry", "--state", "failed")
    run()
    assert got == [
        (1, Secret("one"), None),
        {"secrets": "1.a.b"},
        ("refused", Secret("two"), None),
    ]


def test_what_cannot_be_encrypted_anew_is_said_and_left(keys, capsys):
    job_id = charge.enqueue(1, Secret("one")).id
    before = Job.objects.get(pk=job_id).payload
    keys(NEW)

    with pytest.raises(SystemExit) as ended:
        call_command("aftercommit", "secrets", "reencrypt")

    assert ended.value.code == 4
    assert "the secrets of 1 job cannot be decrypted" in capsys.readouterr().err
    assert Job.objects.get(pk=job_id).payload == before


def test_arguments_that_have_changed_meanwhile_are_not_overwritten(store):
    job_id = charge.enqueue(1, Secret("one")).id
    payload = Job.objects.get(pk=job_id).payload

    assert not store.exchange_payload(UUID(job_id), before="{}", after='{"args":[],"kwargs":{}}')
    assert Job.objects.get(pk=job_id).payload == payload


def test_a_new_key_is_one(keys, capsys):
    call_command("aftercommit", "secrets", "new-key")
    call_command("aftercommit", "secrets", "new-key")

    first, second = capsys.readouterr().out.split()
    assert first != second
    keys(first)
    charge.enqueue(7, Secret(CANARY))
    run()
    assert got == [(7, Secret(CANARY), None)]


def test_e016_keys_without_cryptography_are_a_mistake(monkeypatch):
    assert check_project() == []
    monkeypatch.setattr(project, "find_spec", {}.get)

    (message,) = check_project()

    assert message.id == "aftercommit.E016"
    assert "the package cryptography is not installed" in message.msg


def test_w019_keys_that_waiting_jobs_need_are_named(keys, store):
    charge.enqueue(7, Secret(CANARY))
    assert check_queued_secrets() == []
    assert list(secrets(store)) == []
    keys(NEW)

    (warning,) = check_queued_secrets()
    (finding,) = secrets(store)

    assert (warning.id, finding.check) == ("aftercommit.W019", "secret-keys")
    for text in (warning.msg, finding.text):
        assert SecretKey(bytes([1]) * 32).id in text


@pytest.mark.parametrize("why", ["limit", "jobs", "pause"])
def test_keys_that_jobs_need_which_wait_for_others_are_named_too(keys, store, why):
    job_id = charge.enqueue(7, Secret(CANARY)).id
    blocked = {"limit": Blocked.LIMIT, "jobs": Blocked.JOBS, "pause": None}[why]
    Job.objects.filter(pk=job_id).update(claimable=False, blocked=blocked, waits_for=1)
    if why != "limit":
        Dependency.objects.create(job_id=job_id, needs_id=uuid4())
    assert list(secrets(store)) == []
    keys(NEW)

    assert [one.id for one in check_queued_secrets()] == ["aftercommit.W019"]
    assert [one.check for one in secrets(store)] == ["secret-keys"]


# ---- tampering -------------------------------------------------------------------------------


def test_secrets_cannot_be_moved_to_another_job():
    first, second = (charge.enqueue(number, Secret(f"card {number}")).id for number in (1, 2))
    texts = {one: json.loads(Job.objects.get(pk=one).payload) for one in (first, second)}
    texts[second]["secrets"] = texts[first]["secrets"]
    Job.objects.filter(pk=second).update(payload=json.dumps(texts[second]))

    run()

    assert got == [(1, Secret("card 1"), None)]
    job = Job.objects.get(pk=second)
    assert job.state == State.FAILED
    assert "they were changed, or are those of another job" in job.error_list[0]["traceback"]


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "x",
        lambda _: "2.a.b",
        lambda _: 5,
        lambda _: {},
        lambda text: text[:-4],
        lambda text: text[:-3] + "AAA",
        lambda text: text.replace("1.", "1.ф", 1),
        lambda _: "1..",
    ],
)
def test_changed_secrets_fail_the_job(change):
    job_id = charge.enqueue(7, Secret(CANARY)).id
    loaded = json.loads(Job.objects.get(pk=job_id).payload)
    Job.objects.filter(pk=job_id).update(
        payload=json.dumps({**loaded, "secrets": change(loaded["secrets"])})
    )

    run()

    job = Job.objects.get(pk=job_id)
    assert (job.state, got) == (State.FAILED, [])
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.SecretsUnreadable"


def test_what_looks_like_a_mark_is_none():
    pay.enqueue("[secret]")

    run()

    assert got == ["[secret]"]


# ---- keys of calls ---------------------------------------------------------------------------


def test_calls_with_equal_secrets_are_alike_and_their_key_tells_nothing(keys):
    first = alike.enqueue(Secret("1234")).id
    assert alike.enqueue(Secret("1234")).id == first
    assert alike.enqueue(card=Secret("1234")).id == first
    assert alike.enqueue(Secret("1235")).id != first

    one, other = Job.objects.order_by("id")
    for column in ("unique_key", "limit_key", "rate_key"):
        assert getattr(one, column) != getattr(other, column)
    plain = alike.enqueue("1234")
    assert Job.objects.get(pk=plain.id).unique_key != one.unique_key
    keys(NEW)
    Job.objects.all().delete()
    alike.enqueue(Secret("1234"))
    assert Job.objects.get().unique_key != one.unique_key  # guesses need the key


def test_a_call_that_replaces_another_is_encrypted_for_its_job():
    first = replaced.enqueue(7, Secret("old"))
    assert replaced.enqueue(7, Secret("new")).id == first.id
    ids = replaced.enqueue_many([(7, Secret("newer")), (8, Secret("other"))])
    assert ids[0] == first.id

    run()

    assert sorted(got) == [(7, "newer"), (8, "other")]
