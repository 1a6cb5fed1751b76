"""Tasks that write into the schema of their tenant."""

from aftercommit import task
from shop.models import Note


@task(max_attempts=1)
def plain(text):
    Note.objects.create(text=text)
    if text.endswith("fails"):
        raise ValueError


@task(max_attempts=1, atomic=True)
def atomic(text):
    plain.func(text)


@task(max_attempts=1)
async def coroutine(text):
    await Note.objects.acreate(text=text)
    if text.endswith("fails"):
        raise ValueError


@task(unique="until_finished", max_attempts=1)
def unique(text):
    Note.objects.create(text=text)


@task(max_attempts=1)
def leaves(text):
    from django.db import connection  # noqa: PLC0415

    connection.set_schema("globex")
    Note.objects.create(text=text)


@task(batch_size=8, max_attempts=1)
def batched(calls):
    Note.objects.bulk_create([Note(text=call.args[0]) for call in calls])
