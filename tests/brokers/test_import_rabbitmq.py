"""aftercommit import: what the real libraries have queued in RabbitMQ becomes jobs, once."""

import pika
import pytest
from celery import chord, group
from django.core.management import CommandError, call_command

from aftercommit.errors import ConfigurationError
from aftercommit.importing import source_for
from aftercommit.importing.rabbitmq import source as source_module
from aftercommit.importing.values import Place
from aftercommit.models import Job, Received
from tests.brokers.imports import LATER, check_order, importing, run
from tests.brokers.rabbit_senders import HERE, URL, imported
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("transactional_db"),
]


@pytest.fixture(params=["AsCelery", "AsDramatiq"])
def library(request, rabbit_senders):
    return rabbit_senders(request.param)


def test_what_is_queued_becomes_jobs_in_its_order(library, capsys):
    check_order(library, capsys)

    assert library.length() == 0
    assert not Received.objects.exists()


def test_priorities_are_those_of_the_messages(library, capsys):
    word = "priority" if library.name == "celery" else "broker_priority"
    library.send("none")
    library.send("high", **{word: 7})

    assert run(capsys, library)[0] == 0

    assert [(job.args[0], job.priority) for job in Job.objects.order_by("id")] == [
        ("high", 7),
        ("none", 0),
    ]


def test_a_dry_run_changes_nothing(library, capsys):
    library.send("one")
    library.send("two", at=LATER)
    library.send(1, path="nobody.knows")
    before = library.there()

    status, out, _err = run(capsys, library, "--dry-run", "--batch-size", "1")

    assert status == 7
    assert out.endswith("2 messages of " + library.name + " would be imported, 1 left.")
    assert library.there() == before
    assert len(before) == 3
    assert not Job.objects.exists()


def test_what_cannot_be_a_job_is_left_where_it_is(library, capsys):
    library.send(1, path="nobody.knows")
    library.send("one")
    library.send(1, 2, 3)
    before = library.there()

    status, _out, err = run(capsys, library, "--batch-size", "1")

    assert status == 7
    assert "nobody.knows: 1 message left: no task 'nobody.knows' is declared here" in err
    assert "brought() takes from 1 to 2 positional arguments but 3 were given" in err
    assert [job.args for job in Job.objects.all()] == [["one"]]
    assert library.there() == [before[0], before[2]]
    status, out, _err = run(capsys, library, "--task", f"nobody.knows={HERE}")
    assert status == 7
    assert out.endswith("was imported, 1 left.")
    assert [job.args for job in Job.objects.order_by("id")] == [["one"], [1]]


def test_a_limit_leaves_the_others_to_the_next_run(library, capsys):
    for word in ("one", "two", "three"):
        library.send(word)

    assert run(capsys, library, "--limit", "2")[1].endswith(
        "2 messages of " + library.name + " were imported."
    )

    assert library.length() == 1
    run(capsys, library)
    assert imported() == {"one": 1, "two": 1, "three": 1}


def test_no_more_than_so_many_are_held_at_once(library, capsys, monkeypatch):
    monkeypatch.setattr(source_module, "MOST_HELD", 2)
    for number in range(4):
        library.send(number, path="nobody.knows")

    status, _out, err = run(capsys, library, "--batch-size", "1")

    assert status == 7
    assert "2 messages left" in err
    assert "2 messages not looked at: 2 before them are held, and left in the end." in err
    assert library.length() == 4


def test_messages_that_are_the_same_to_the_last_byte_are_all_jobs(rabbit_senders, capsys):
    celery = rabbit_senders("AsCelery")
    for _time in range(3):
        celery.send("same", task_id="nightly")

    assert run(capsys, celery, "--dry-run")[1].endswith("3 messages of celery would be imported.")
    assert run(capsys, celery)[1].endswith("3 messages of celery were imported.")

    assert imported() == {"same": 3}


def test_a_connection_that_is_gone_is_a_sentence_and_doubles_nothing(library):
    library.send("one")
    library.send("two")
    source, broken = importing(library, batch_size=1)
    real = source._link.acknowledge

    def cut(tags):
        source._link.close()
        real(tags)

    source._link.acknowledge = cut
    with pytest.raises(ConfigurationError, match="What was imported before is committed"):
        broken.run()
    with pytest.raises(ConfigurationError):
        source.close()
    wait_until(lambda: library.length() == 2, why="RabbitMQ has put them back")
    assert Job.objects.count() == 1

    again, healthy = importing(library)
    assert healthy.run().again == 1
    again.close()
    assert imported() == {"one": 1, "two": 1}


def test_two_runs_at_the_same_time_double_nothing(library):
    library.send("one")
    library.send("two")
    source, one_run = importing(library)
    other_source, other_run = importing(library)

    first = other_source.read(1)  # which the other one holds from now on
    assert one_run.run().imported.total() == 1
    source.close()
    assert len(first) == 1
    other_source.close()
    wait_until(lambda: library.length() == 1, why="it is put back")
    third, last_run = importing(library)
    assert last_run.run().imported.total() == 1
    third.close()
    assert imported() == {"one": 1, "two": 1}
    assert other_run is not None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"serializer": "pickle"}, "its arguments are no JSON, which alone is loaded"),
        ({"compression": "zlib"}, "it is compressed"),
        ({"expires": 60}, "it has an expiry, which a job has not"),
        ({"link": "chain"}, "a chain, a chord or a callback waits for it"),
    ],
)
def test_messages_of_celery_that_are_more_than_a_call_are_left(
    options, why, rabbit_senders, capsys
):
    celery = rabbit_senders("AsCelery")
    if "link" in options:
        options = {"link": celery.app.signature(HERE, ("two",))}
    celery.send("one", **options)

    status, _out, err = run(capsys, celery)

    assert status == 7
    assert why in err
    assert celery.length() == 1


def test_a_chord_of_celery_is_left(rabbit_senders, capsys):
    celery = rabbit_senders("AsCelery")
    celery.app.conf.result_backend = "cache+memory://"
    members = group(
        [celery.app.signature(HERE, (word,)) for word in ("one", "two")], app=celery.app
    )
    chord(members, app=celery.app)(celery.app.signature(HERE))

    status, _out, err = run(capsys, celery)

    assert (status, celery.length()) == (7, 2)
    assert "2 messages left: a chain, a chord or a callback waits for it" in err


def test_a_call_that_celery_tries_again_is_a_message_of_its_own(rabbit_senders, capsys):
    celery = rabbit_senders("AsCelery")
    for retries in range(2):
        celery.send("same", task_id="one", retries=retries)

    assert run(capsys, celery)[0] == 0

    assert imported() == {"same": 2}


def test_dead_letters_of_dramatiq_are_left_and_counted(rabbit_senders, capsys):
    library = rabbit_senders("AsDramatiq")
    library.send("one")
    method, _said, _body = library.channel.basic_get(library.queue)
    library.channel.basic_nack(method.delivery_tag, requeue=False)
    library.send("two")
    wait_until(
        lambda: (
            library.channel.queue_declare(
                f"{library.queue}.XQ", passive=True
            ).method.message_count
        ),
        why="it is a dead letter",
    )

    _status, _out, err = run(capsys, library)

    assert "1 message not looked at: they are dead letters." in err
    assert imported() == {"two": 1}


def test_what_celery_has_handed_over_until_it_is_due_is_counted(rabbit_senders, capsys):
    celery = rabbit_senders("AsCelery")
    celery.channel.queue_declare("celery_delayed_0")
    try:
        celery.channel.basic_publish("", "celery_delayed_0", b"{}")

        err = run(capsys, celery)[2]
    finally:
        celery.channel.queue_delete("celery_delayed_0")

    assert "they wait in celery_delayed_* of this virtual host until they are due" in err


@pytest.mark.parametrize("option", [{"max_age": 5000}, {"pipe_target": {"actor_name": HERE}}])
def test_messages_of_dramatiq_that_are_more_than_a_call_are_left(option, rabbit_senders, capsys):
    library = rabbit_senders("AsDramatiq")
    library.send("one", **option)

    assert "1 message left: " in run(capsys, library)[2]
    assert library.length() == 1


def test_bytes_that_are_no_json_are_left_by_both(library, capsys):
    deep = b"[" * 100_000
    said = pika.BasicProperties(headers={"task": HERE}, content_type="application/json")
    for body in (b"\x80\x04N.", deep, b"[[" + b"[" * 3000 + b"]" * 3000 + b"], {}, {}]"):
        library.channel.basic_publish("", library.queue, body, said)
    wait_until(lambda: library.length() == 3, why="they are there")

    status, out, _err = run(capsys, library)

    assert (status, library.length()) == (7, 3)
    assert out.endswith("0 messages of " + library.name + " were imported, 3 left.")


def test_a_queue_that_is_not_there_is_a_sentence(rabbit_senders):
    celery = rabbit_senders("AsCelery")
    with pytest.raises(CommandError, match="There is no queue 'nobodys' in the RabbitMQ at"):
        call_command("aftercommit", "import", "celery", "--url", URL, "--queue", "nobodys")
    with pytest.raises(CommandError, match="takes neither --held nor --prefix"):
        call_command("aftercommit", "import", "celery", "--url", URL, "--held", *celery.words)


@pytest.mark.parametrize("name", ["celery", "dramatiq"])
def test_where_the_broker_is_may_be_wrong(name):
    with pytest.raises(CommandError, match="cannot be read") as error:
        call_command("aftercommit", "import", name, "--url", "amqp://me:secret@127.0.0.1:1/%2F")
    assert "secret" not in str(error.value)


def test_a_broker_that_is_not_read_is_named():
    with pytest.raises(CommandError, match=r"from RabbitMQ or Redis .*begins with 'sqs'"):
        call_command("aftercommit", "import", "celery", "--url", "sqs://key:secret@")
    with pytest.raises(ConfigurationError, match="The messages of rq are imported from Redis"):
        source_for("rq", using="default", place=Place(url=URL))
