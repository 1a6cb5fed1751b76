"""A backend of ``django.tasks`` that is not ours: a list in Redis, as simple as can be."""

import json
from uuid import uuid4

import redis
from django.utils import timezone
from django.utils.module_loading import import_string

from aftercommit._compat import (
    BaseTaskBackend,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from tests.brokers.addresses import broker_url, queue_name

LIST = queue_name("elsewhere")


class RedisBackend(BaseTaskBackend):
    """Puts what it is given into a list."""

    supports_defer = supports_priority = supports_get_result = True

    def __init__(self, alias, params):
        super().__init__(alias, params)
        self.client = redis.Redis.from_url(self.options.get("url") or broker_url("redis"))

    def enqueue(self, task, args, kwargs):
        """Put a task into the list; the id is known when it is there."""
        self.validate_task(task)
        entry = {
            "id": str(uuid4()),
            "alias": self.alias,
            "task": task.module_path,
            "args": list(args),
            "kwargs": dict(kwargs),
            "priority": task.priority,
            "queue": task.queue_name,
            "run_after": task.run_after and task.run_after.isoformat(),
        }
        self.client.rpush(LIST, json.dumps(entry))
        return self._result(task, entry)

    def get_result(self, result_id):
        """Return what is in the list."""
        for entry in self.entries():
            if entry["id"] == result_id:
                return self._result(import_string(entry["task"]), entry)
        raise TaskResultDoesNotExist(result_id)

    def entries(self):
        """Return all that is in the list."""
        return [json.loads(one) for one in self.client.lrange(LIST, 0, -1)]

    def _result(self, task, entry):
        return TaskResult(
            task=task,
            id=entry["id"],
            status=TaskResultStatus.RUNNING,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=entry["args"],
            kwargs=entry["kwargs"],
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )


class Derived(RedisBackend):
    """Passes on to its base, whose class may be wrapped as well."""

    def enqueue(self, task, args, kwargs):
        """See ``RedisBackend``."""
        return super().enqueue(task, args, kwargs)
