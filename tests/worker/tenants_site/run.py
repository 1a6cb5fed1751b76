"""Enqueue in each schema, run everything, and print where the effects are; by a test."""

import json
import sys
from collections import Counter

import django
from django.core.management import call_command

django.setup()

from customers.models import Client  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django_tenants.utils import schema_context  # noqa: E402
from shop import tasks  # noqa: E402
from shop.models import Note  # noqa: E402

from aftercommit.models import Job  # noqa: E402
from aftercommit.options.worker import WorkerConfig  # noqa: E402
from aftercommit.worker.quota import RunQuota  # noqa: E402
from aftercommit.worker.worker import Worker  # noqa: E402

SCHEMAS = ("acme", "globex")


def main(names, texts):
    call_command("makemigrations", "customers", "shop", verbosity=0)
    call_command("migrate_schemas", schema_name="public", verbosity=0)
    for schema in SCHEMAS:
        Client.objects.create(schema_name=schema).create_schema(verbosity=0)
    for text in texts:
        for name in names:
            for schema in SCHEMAS:
                with schema_context(schema), transaction.atomic():
                    getattr(tasks, name).enqueue(text.format(name=name, schema=schema))
    Worker(WorkerConfig(drain=True, threads=1), quota=RunQuota(None)).run()
    found = {"states": Counter(Job.objects.values_list("state", flat=True))}
    errors = [one["exception_class_path"] for job in Job.objects.all() for one in job.error_list]
    found["errors"] = Counter(errors)
    for schema in SCHEMAS:
        with schema_context(schema):
            found[schema] = sorted(Note.objects.values_list("text", flat=True))
    found["afterwards"] = connection.schema_name
    print(json.dumps(found))


main(sys.argv[1].split(","), sys.argv[2].split(","))
