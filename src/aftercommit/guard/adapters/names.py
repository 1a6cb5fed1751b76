"""What the guard can notice."""

# Each adapter, and what it notices.
ADAPTERS = {
    "celery": "messages of Celery",
    "django_q": "tasks of django-q2",
    "dramatiq": "messages of Dramatiq",
    "huey": "tasks of Huey",
    "rq": "jobs of RQ and django-rq",
    "tasks": "tasks of `django.tasks`, by any backend",
    "http": "requests by `urllib`, `http.client`, `requests`, `httpx` and `aiohttp`",
    "mail": "Django's mail, and `smtplib`",
    "channels": "messages to channels and groups of Channels",
    "kafka": "records for Kafka by kafka-python, confluent-kafka and aiokafka",
    "redis": "commands to Redis that write",
    "storage": "files saved by Django's storages",
    "subprocess": "processes that are started",
    "transactions": "two transactions open at once, `on_commit()` on another database or for "
    "what the relay would keep, callbacks lost by `close()`",
}
MODULES = {
    "celery": "aftercommit.guard.adapters.celery",
    "django_q": "aftercommit.guard.adapters.django_q",
    "dramatiq": "aftercommit.guard.adapters.dramatiq",
    "huey": "aftercommit.guard.adapters.huey",
    "rq": "aftercommit.guard.adapters.rq",
    "tasks": "aftercommit.guard.adapters.tasks",
    "http": "aftercommit.guard.adapters.http",
    "mail": "aftercommit.guard.adapters.mail",
    "channels": "aftercommit.guard.adapters.channels",
    "kafka": "aftercommit.guard.adapters.kafka",
    "redis": "aftercommit.guard.adapters.others",
    "storage": "aftercommit.guard.adapters.others",
    "subprocess": "aftercommit.guard.adapters.others",
}
# Off until the settings name a mode: caches and the like write where no rollback matters.
OPTIONAL = frozenset({"channels", "kafka", "redis", "storage", "subprocess"})
EFFECTS = frozenset({"http", "mail", *OPTIONAL})  # not the dispatch of a task
# The caller needs the answer, or an id that only the other side can give.
CANNOT_WAIT = frozenset({"http", "tasks", "transactions", *OPTIONAL})
