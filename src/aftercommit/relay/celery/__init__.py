"""Tasks of ``django.tasks`` that Celery's workers run."""
