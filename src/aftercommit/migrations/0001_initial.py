from django.db import migrations, models

import aftercommit.ids
import aftercommit.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="WorkerPresence",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("host", models.CharField(max_length=255)),
                ("pid", models.PositiveIntegerField()),
                ("locked", models.BooleanField(default=False)),
                ("started_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
            },
        ),
        migrations.CreateModel(
            name="Job",
            # What never changes comes first, in new databases: PostgreSQL's log of an UPDATE leaves
            # out what the beginnings of the two versions of a row have in common.
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=aftercommit.ids.new_job_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("queue", models.CharField(default="default", max_length=100)),
                ("priority", models.SmallIntegerField(default=0)),
                ("backend", models.CharField(default="default", max_length=100)),
                ("task_path", models.CharField(max_length=255)),
                ("payload", models.TextField()),
                ("meta", models.JSONField(blank=True, default=dict)),
                ("max_attempts", models.PositiveIntegerField(default=5)),
                ("unique_key", models.CharField(max_length=255, null=True)),
                ("unique_until_started", models.BooleanField(default=False)),
                ("limit_key", models.CharField(max_length=255, null=True)),
                ("enqueued_at", models.DateTimeField()),
                ("run_after", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("ready", "Ready"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="ready",
                        max_length=9,
                    ),
                ),
                ("token", models.BigIntegerField(default=0)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("crashes", models.PositiveIntegerField(default=0)),
                ("conflicts", models.PositiveIntegerField(default=0)),
                ("cancel_requested", models.BooleanField(default=False)),
                ("worker_id", models.UUIDField(null=True)),
                ("lease_until", models.DateTimeField(null=True)),
                ("unique_lock", models.CharField(max_length=64, null=True)),
                ("slot", models.PositiveIntegerField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("claimed_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("result", models.TextField(null=True)),
                ("errors", models.TextField(default="[]")),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "permissions": [
                    ("retry_job", "Can retry jobs"),
                    ("cancel_job", "Can cancel jobs"),
                ],
                "indexes": [
                    aftercommit.models.PartialIndex(
                        condition=models.Q(("state", "ready")),
                        fields=["queue", "-priority", "run_after", "id"],
                        leading=("state",),
                        name="aftercommit_job_due",
                    ),
                    aftercommit.models.PartialIndex(
                        condition=models.Q(("lease_until__isnull", False)),
                        fields=["lease_until"],
                        leading=(),
                        name="aftercommit_job_lease",
                    ),
                    aftercommit.models.PartialIndex(
                        condition=models.Q(("finished_at__isnull", False)),
                        fields=["state", "finished_at"],
                        leading=(),
                        name="aftercommit_job_finished",
                    ),
                ],
                "constraints": [
                    aftercommit.models.UniqueWhenSet(
                        condition=models.Q(("unique_lock__isnull", False)),
                        fields=("unique_lock",),
                        name="aftercommit_job_unique",
                    ),
                    aftercommit.models.UniqueWhenSet(
                        condition=models.Q(("slot__isnull", False)),
                        fields=("limit_key", "slot"),
                        name="aftercommit_job_slot",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("lease_until__isnull", False),
                                ("state", "running"),
                                ("worker_id__isnull", False),
                            ),
                            models.Q(
                                models.Q(("state", "running"), _negated=True),
                                ("lease_until__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="aftercommit_job_running_has_lease",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", False),
                                ("state__in", ("succeeded", "failed", "cancelled")),
                            ),
                            models.Q(
                                ("finished_at__isnull", True), ("state__in", ("ready", "running"))
                            ),
                            _connector="OR",
                        ),
                        name="aftercommit_job_finished_has_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("unique_lock__isnull", True),
                            ("state__in", ("ready", "running")),
                            _connector="OR",
                        ),
                        name="aftercommit_job_unique_only_live",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("slot__isnull", True),
                            models.Q(("limit_key__isnull", False), ("state", "running")),
                            _connector="OR",
                        ),
                        name="aftercommit_job_slot_only_running",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("max_attempts__gte", 1),
                            ("priority__gte", -100),
                            ("priority__lte", 100),
                        ),
                        name="aftercommit_job_bounds",
                    ),
                ],
            },
        ),
    ]
