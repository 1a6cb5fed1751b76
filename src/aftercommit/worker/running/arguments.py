"""The arguments that a function is called with: decrypted, and of its newest version."""

from typing import Any

from aftercommit.enqueue.payload import load_call
from aftercommit.enqueue.sealing import opened, put_back
from aftercommit.enqueue.secret import is_secret, wrapped
from aftercommit.worker.runs import Run
from aftercommit.worker.secret_texts import texts_of

Arguments = tuple[list[Any], dict[str, Any]]


def arguments_of(run: Run) -> Arguments:
    """Return them; what is to be hidden of the run is noted in ``run.secrets``.

    Raises ``Unreadable``, ``SecretsUnreadable`` or ``NotUpgraded``.
    """
    args, kwargs, secrets = load_call(run.claim.payload)
    facts = run.facts
    if secrets is not None:
        _decrypt(run, args, kwargs, secrets)
    if facts.upgrade is not None:
        args, kwargs = facts.upgrade(args, kwargs)
    if facts.has_secrets:
        args, kwargs = _as_declared(run, args, kwargs)
    return args, kwargs


def _decrypt(run: Run, args: list[Any], kwargs: dict[str, Any], secrets: Any) -> None:
    found = put_back((args, kwargs), opened(secrets, run.facts.secret_keys, run.claim.job_id))
    run.secrets = texts_of(one.reveal() for one in found)


def _as_declared(run: Run, args: list[Any], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments with a ``Secret`` where the function declares one."""
    task = run.facts.task
    call = wrapped(task.func, args, kwargs, takes_context=task.takes_context)
    values = (*call[0], *call[1].values())
    run.secrets += texts_of(one.reveal() for one in values if is_secret(one))
    return call
