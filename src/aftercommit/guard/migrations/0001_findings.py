"""The table of findings."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="StoredFinding",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(max_length=64, unique=True, verbose_name="key")),
                ("rule", models.CharField(max_length=10, verbose_name="rule")),
                ("adapter", models.CharField(max_length=40, verbose_name="adapter")),
                ("subject", models.CharField(max_length=300, verbose_name="subject")),
                ("path", models.CharField(max_length=500, verbose_name="file")),
                ("line", models.PositiveIntegerField(verbose_name="line")),
                ("function", models.CharField(max_length=300, verbose_name="function")),
                ("report", models.TextField(verbose_name="report")),
                ("count", models.BigIntegerField(default=0, verbose_name="how often")),
                ("first_seen", models.DateTimeField(verbose_name="first seen")),
                ("last_seen", models.DateTimeField(verbose_name="last seen")),
            ],
            options={
                "verbose_name": "dispatch inside a transaction",
                "verbose_name_plural": "dispatches inside transactions",
                "db_table": "aftercommit_guard_finding",
                "ordering": ("-count", "path", "line"),
            },
        ),
    ]
