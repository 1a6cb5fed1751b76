"""A task's own options over the defaults of its backend."""

from datetime import timedelta

import pytest

from aftercommit import Exponential, task
from aftercommit.enqueue.policy import Policy, max_attempts_of, policy_of
from aftercommit.errors import ConfigurationError, TimedOut
from aftercommit.options.conf import BackendOptions

SECOND = timedelta(seconds=1)


def work():
    """Do nothing."""


def test_a_task_without_options_has_those_of_its_backend():
    backend = BackendOptions(
        max_attempts=7,
        backoff=SECOND,
        retry_on=OSError,
        discard_on=ValueError,
        atomic=True,
        fuse=False,
        timeout=SECOND,
        max_payload=10,
        strict_json=True,
    )

    policy = policy_of(task(work), backend)

    assert policy == Policy(
        backoff=policy.backoff,
        retry_on=(OSError,),
        discard_on=(ValueError,),
        atomic=True,
        fuse=False,
        timeout=SECOND,
        max_payload=10,
        strict_json=True,
    )
    assert policy.backoff(1) == SECOND
    assert max_attempts_of(task(work), backend) == 7


def test_its_own_options_come_first_even_if_they_are_false():
    backend = BackendOptions(max_attempts=7, discard_on=ValueError, atomic=True)
    own = task(
        max_attempts=1,
        backoff=2 * SECOND,
        retry_on=(),
        discard_on=(),
        atomic=False,
        timeout=2 * SECOND,
    )(work)

    policy = policy_of(own, backend)

    assert (policy.retry_on, policy.discard_on) == ((), ())
    assert (policy.atomic, policy.timeout) == (False, 2 * SECOND)
    assert policy.backoff(1) == 2 * SECOND
    assert max_attempts_of(own, backend) == 1


def test_by_default_every_exception_and_a_timeout_are_retried():
    policy = policy_of(task(work), BackendOptions())

    assert policy.retry_on == (Exception, TimedOut)
    assert policy.discard_on == ()
    assert policy.backoff == Exponential()


def test_an_exception_class_may_be_named_by_its_path():
    own = task(retry_on=["builtins.OSError", ValueError])(work)

    assert policy_of(own, BackendOptions()).retry_on == (OSError, ValueError)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("does.not.Exist", r"'does\.not\.Exist' cannot be imported: No module named 'does'"),
        ("builtins.Missing", r"'builtins\.Missing' cannot be imported: "),
        ("builtins.len", r"'builtins\.len' is not an exception class"),
        ("builtins.int", r"'builtins\.int' is not an exception class"),
        ("undotted", r"'undotted' cannot be imported"),
    ],
)
def test_a_path_that_leads_to_no_exception_is_named(path, problem):
    own = task(discard_on=path)(work)

    with pytest.raises(ConfigurationError, match=rf"discard_on: {problem}"):
        policy_of(own, BackendOptions())
