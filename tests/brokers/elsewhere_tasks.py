"""Tasks of that backend, declared with Django's own decorator; imported when it is in TASKS."""

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task(backend="mail")
def note(*words, **more):
    """Do nothing: the test reads the list itself."""


@task(backend="mail")
def at_once(*words):
    """Do as ``note``, whatever transaction is open."""


at_once.func.aftercommit = "never"
