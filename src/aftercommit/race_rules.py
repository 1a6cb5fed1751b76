"""The rules about dispatches and transactions: one number, one sentence and one page for each.

The linter and the guard say the same of the same fault, so the sentences stand here, where
both may import them. Nothing here needs Django.
"""

from dataclasses import dataclass
from enum import StrEnum

DOCS = "https://github.com/aftercommit/aftercommit/blob/main/docs/rules/"


class Severity(StrEnum):
    """How sure a finding is: shown to be wrong, plausible, or a matter of policy."""

    ERROR = "error"
    WARNING = "warning"
    POLICY = "policy"

    @property
    def rank(self) -> int:
        """Return 0 for the most severe."""
        return list(Severity).index(self)

    def at_least(self, other: "Severity") -> bool:
        """Say whether this is as severe as another, or more."""
        return self.rank <= other.rank


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault: what happens, what it leads to, and what to do about it.

    ``what`` has a place ``{subject}`` for what is sent, or for the name that is concerned.
    """

    id: str
    severity: Severity
    title: str
    what: str
    leads_to: str
    fix: str

    @property
    def page(self) -> str:
        """Return the address of the rule's page."""
        return f"{DOCS}{self.id}.md"

    def message(self, subject: str) -> str:
        """Return the sentence about one place, without what to do."""
        return f"{self.what.format(subject=subject)} {self.leads_to}"


EARLY = (
    "A worker may start before the commit and not find the rows, or run although the "
    "transaction rolls back."
)
ON_COMMIT = (
    "Send it with transaction.on_commit(...), on the alias of the transaction, or make the "
    "message part of the transaction with aftercommit's relay."
)

_ALL = (
    Rule(
        "AC101",
        Severity.ERROR,
        "Dispatch inside a transaction",
        "{subject} is sent to its broker inside an open transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC102",
        Severity.ERROR,
        "Dispatch in a function that a transaction calls",
        "{subject} is sent to its broker in a function that is called inside a transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC111",
        Severity.ERROR,
        "on_commit on another database than the transaction",
        "on_commit() waits for {subject}, but the transaction around it is on another database.",
        "The callback runs at once, or before the other database has committed.",
        "Name the database of the transaction: transaction.on_commit(..., using=alias).",
    ),
    Rule(
        "AC112",
        Severity.ERROR,
        "on_commit callback that captures a loop variable",
        "A callback for on_commit() reads the loop variable {subject} when it runs, "
        "which is after the loop.",
        "Every callback sees the last value: the same task is sent several times, and the "
        "others never.",
        "Bind the value now: functools.partial(task.delay, item.pk).",
    ),
    Rule(
        "AC113",
        Severity.ERROR,
        "Swallowed error around atomic(savepoint=False)",
        "An error that leaves atomic(savepoint=False) is caught inside another transaction, "
        "in {subject}.",
        "The outer transaction rolls back without an exception, and its on_commit callbacks "
        "are dropped.",
        "Let the error pass, or use a savepoint (the default).",
    ),
    Rule(
        "AC114",
        Severity.ERROR,
        "ATOMIC_REQUESTS at the top of the settings",
        "{subject} at the top level of the settings has no effect: Django reads it only from "
        "an entry of DATABASES.",
        "Views run in autocommit although the settings seem to say otherwise.",
        'Set DATABASES["default"]["ATOMIC_REQUESTS"], or delete the line.',
    ),
    Rule(
        "AC201",
        Severity.WARNING,
        "Dispatch in a receiver of pre_save or post_save",
        "{subject} is sent to its broker by a receiver of pre_save or post_save, which runs "
        "inside a transaction after get_or_create(), update_or_create(), in the admin, and "
        "wherever the caller has opened one.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC202",
        Severity.WARNING,
        "Dispatch in a receiver of a delete signal or m2m_changed",
        "{subject} is sent to its broker by a receiver of pre_delete, post_delete or "
        "m2m_changed, which Django always sends inside a transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC203",
        Severity.WARNING,
        "Dispatch in a receiver of another signal",
        "{subject} is sent to its broker by a receiver of a signal, which runs inside the "
        "transaction of whoever sends the signal.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC204",
        Severity.WARNING,
        "Dispatch in save() or delete() of a model",
        "{subject} is sent to its broker by save() or delete() of a model, which is called "
        "inside a transaction by get_or_create(), by the admin, and by whoever has opened one.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC205",
        Severity.WARNING,
        "Dispatch in a hook of ModelAdmin",
        "{subject} is sent to its broker by a hook of the admin, which calls it inside a "
        "transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC206",
        Severity.WARNING,
        "Dispatch in a view under ATOMIC_REQUESTS",
        "{subject} is sent to its broker by a view, or by a function that a view calls, and "
        "ATOMIC_REQUESTS makes the view a transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC207",
        Severity.WARNING,
        "Dispatch in an API endpoint under ATOMIC_REQUESTS",
        "{subject} is sent to its broker by an endpoint of an API, or by a function that it "
        "calls, and ATOMIC_REQUESTS makes the request a transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC208",
        Severity.WARNING,
        "Dispatch in save() of a form or serializer",
        "{subject} is sent to its broker by a form or serializer, which the admin and views "
        "under ATOMIC_REQUESTS save inside a transaction.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC209",
        Severity.WARNING,
        "Dispatch in a function that a transaction seems to call",
        "{subject} is sent to its broker in a function that a transaction seems to call; "
        "only the name of the method says so.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC210",
        Severity.WARNING,
        "Dispatch of a row that the same function has written",
        "{subject} is sent to its broker about a row that the same function has just "
        "written, and the function does not decide whether a transaction is open.",
        EARLY,
        ON_COMMIT,
    ),
    Rule(
        "AC221",
        Severity.POLICY,
        "A countdown that waits for a commit",
        "{subject} is sent inside a transaction with a delay of a few seconds.",
        "The delay only hides that the task may start before the commit, and does nothing "
        "about a rollback.",
        ON_COMMIT,
    ),
    Rule(
        "AC222",
        Severity.WARNING,
        "A task that is retried because its row does not exist yet",
        "{subject} is retried, or waits, when its row does not exist.",
        "It waits for a commit that may never come: the row may have been rolled back.",
        "Send the task after the commit, and let a missing row end it.",
    ),
    Rule(
        "AC223",
        Severity.WARNING,
        "Autocommit switched off by hand",
        "{subject} switches autocommit off: on_commit() raises an error then, and callbacks "
        "registered inside atomic() are not run by connection.commit().",
        "Tasks that wait for the commit are never sent.",
        "Use transaction.atomic().",
    ),
    Rule(
        "AC224",
        Severity.WARNING,
        "Dispatch in __del__",
        "{subject} is sent to its broker by __del__(), which runs when the garbage collector "
        "decides, in whatever transaction is open then.",
        EARLY,
        "Send it where the work ends: in a method that is called by name.",
    ),
    Rule(
        "AC225",
        Severity.WARNING,
        "A model instance as an argument",
        "{subject} gets a model instance as an argument.",
        "The task works on a copy of the row from before the commit, or the message cannot "
        "be serialised.",
        "Pass the primary key and read the row in the task.",
    ),
    Rule(
        "AC301",
        Severity.POLICY,
        "Dispatch that does not wait for a commit",
        "{subject} is sent to its broker without waiting for a commit.",
        "If a caller opens a transaction one day, the task may start before its commit.",
        ON_COMMIT,
    ),
    Rule(
        "AC302",
        Severity.POLICY,
        "Signal whose receiver dispatches",
        "{subject} has a receiver that sends a task without waiting for a commit.",
        "If a caller opens a transaction one day, the task may start before its commit.",
        "Let the receiver send it with transaction.on_commit(...).",
    ),
)

RULES = {rule.id: rule for rule in _ALL}

# What only a running program shows: the guard's own. It uses AC101 and AC111 as well.
_AT_RUN_TIME = (
    Rule(
        "AC401",
        Severity.WARNING,
        "An effect inside a transaction that no rollback takes back",
        "{subject} leaves the process inside an open transaction.",
        "It stays done if the transaction rolls back, others hear of rows that they cannot see "
        "yet, and the transaction holds its locks for as long as the answer takes.",
        "Do it after the commit: transaction.on_commit(...), or a task that is sent then.",
    ),
    Rule(
        "AC402",
        Severity.WARNING,
        "Two transactions open at once",
        "A transaction is opened on {subject} while another one is open on another database.",
        "One commits before the other: a crash in between leaves half of the work, and no order "
        "of the two commits is right.",
        "End one before the other begins, or let a task that is part of the first transaction "
        "do the rest.",
    ),
    Rule(
        "AC403",
        Severity.ERROR,
        "Callbacks lost by close()",
        "The connection to {subject} is closed inside a transaction that has on_commit "
        "callbacks.",
        "Django drops the callbacks without an error: their tasks are never sent, and the "
        "transaction is rolled back.",
        "Close connections outside of transactions.",
    ),
    Rule(
        "AC404",
        Severity.WARNING,
        "An on_commit callback for a message that the relay would keep",
        "{subject} is sent by an on_commit() callback, although the relay would keep it in the "
        "transaction.",
        "The callback is lost if the process dies after the commit; a message that the relay "
        "keeps is not.",
        "Send it inside the transaction, without on_commit().",
    ),
    Rule(
        "AC405",
        Severity.ERROR,
        "A job in another database than the transaction",
        "{subject} is enqueued in another database than the one whose transaction is open.",
        EARLY,
        "Enqueue it in the database of its data, or with transaction.on_commit(...) on the alias "
        "of the transaction.",
    ),
)

GUARD_RULES = {rule.id: rule for rule in (RULES["AC101"], RULES["AC111"], *_AT_RUN_TIME)}
