"""What a project's settings say, and what its configuration adds, for the rules to know."""

from dataclasses import dataclass, field

IN_DATABASE = (
    "DatabaseBackend",
    "django_tasks_db",
    "aftercommit",
    "ImmediateBackend",
    "DummyBackend",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """Facts about the whole project that stand in no function."""

    atomic_requests: bool = False
    has_settings: bool = False  # settings were found: without ATOMIC_REQUESTS views do autocommit
    task_backends: tuple[str, ...] = ()  # BACKEND of each entry of TASKS
    q_in_database: bool = False  # django-q2 has its ORM broker
    rq_waits: bool | None = False  # queues of django-rq wait for the commit; None: perhaps
    has_django_rq: bool = False
    dispatchers: tuple[str, ...] = ()  # names that the project declares, with * for any
    transactions: tuple[str, ...] = ()  # context managers and decorators that open one
    replicas: frozenset[str] = field(default=frozenset())  # aliases that are only read

    @property
    def may_be_atomic(self) -> bool:
        """Say whether a request may be a transaction: it is, or no settings were found."""
        return self.atomic_requests or not self.has_settings

    def in_database(self, library: str, origin: str) -> bool:
        """Say whether the tasks of a library are rows of the same transaction."""
        if library == "aftercommit":
            return True
        if library == "procrastinate":
            return "contrib.django" in origin
        if library == "tasks" and self.task_backends:
            return all(any(part in one for part in IN_DATABASE) for one in self.task_backends)
        return False

    def queue_in_database(self, library: str) -> bool:
        """Say whether a queue keeps its messages in Django's own database."""
        return library == "django_q" and self.q_in_database
