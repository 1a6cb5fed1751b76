"""RQ and django-rq: every way to enqueue ends in one of three methods of ``Queue``."""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.guard.dispatches import Dispatch, Later, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch


def install(on_import: OnImport) -> None:
    """Notice the jobs of all queues."""
    on_import.when("rq.queue", _patch)


def _patch(module: ModuleType) -> None:
    patch(module.Queue, "enqueue_job", _one)
    patch(module.Queue, "schedule_job", partial(_one, scheduled=True))
    patch(module.Queue, "enqueue_many", _many)


def _one(original: Callable[..., Any], *, scheduled: bool = False) -> Callable[..., Any]:
    @wraps(original)
    def send(self: Any, job: Any, *args: Any, **options: Any) -> Any:
        enqueue = partial(original, self, job, *args, **options)
        if not someone_is_interested():
            return enqueue()
        can_wait = options.get("pipeline") is None and len(args) <= scheduled
        return passing(
            Dispatch(
                adapter="rq",
                subject=job.func_name,
                send=enqueue,
                prepare=partial(_prepare, job, enqueue) if can_wait else None,
                body=lambda: job.func(*job.args, **job.kwargs),
                eager=not self._is_async and not scheduled,
                when=_when(job),
            )
        )

    return send


def _prepare(job: Any, enqueue: Callable[[], Any]) -> Later:
    _ = job.data  # serialises the arguments, once for all
    return Later(job, enqueue)


def _many(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue_many(
        self: Any, job_datas: Iterable[Any], pipeline: Any = None, group_id: str | None = None
    ) -> Any:
        if not someone_is_interested():
            return original(self, job_datas, pipeline=pipeline, group_id=group_id)
        datas, alone = list(job_datas), pipeline is None
        return passing(
            Dispatch(
                adapter="rq",
                subject=", ".join(dict.fromkeys(_name(one.func) for one in datas)),
                send=lambda: original(self, datas, pipeline=pipeline, group_id=group_id),
                prepare=partial(_prepare_many, self, datas, group_id) if alone else None,
                eager=not self._is_async,
            )
        )

    return enqueue_many


def _prepare_many(queue: Any, datas: list[Any], group_id: str | None) -> Later:
    made: list[tuple[Any, bool]] = []
    for data in datas:
        fields = data._asdict()
        at_front = fields.pop("at_front")
        job = queue.create_job(**fields, group_id=group_id)
        _ = job.data
        made.append((job, at_front))

    def enqueue() -> None:
        for job, at_front in made:
            queue.enqueue_job(job, at_front=at_front)

    return Later([job for job, _at_front in made], enqueue)


def _name(function: Any) -> str:
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}.{name}"


def _when(job: Any) -> str | None:
    try:
        return getattr(job.func, "aftercommit", None)
    except Exception:
        return None  # the function can be imported in its worker only
