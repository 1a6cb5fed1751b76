"""The report of a race: what differs, both stacks, and the schedule as a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass

from aftercommit.reproduce.dispatches import Dispatch
from aftercommit.reproduce.play import BODY, Event
from aftercommit.reproduce.runs import Result
from aftercommit.reproduce.schedules import Schedule

WIDTH = 46  # of the lane of the body
MOST_LINES = 20  # of the differences, for each race
FIXES = {
    Schedule.EARLY: "Fix: dispatch with transaction.on_commit(), or make the message part of the "
    "transaction with aftercommit's relay.",
    Schedule.CRASH: "Fix: make the message part of the transaction: aftercommit's relay, or a "
    "queue in the same database. on_commit() cannot help.",
    Schedule.TWICE: "Fix: let the task look for what an earlier run has done, or decorate it "
    "with aftercommit.once: brokers deliver at least once.",
    Schedule.STALE: "Fix: read from the primary in this task, or wait until the replica has the "
    "row.",
}
FIXES[Schedule.ROLLBACK] = FIXES[Schedule.EARLY]


@dataclass(frozen=True, slots=True)
class Race:
    """A schedule that leads to another result than the expected one."""

    schedule: Schedule
    differences: tuple[str, ...]
    found: Result
    expected: Result  # under the schedule late

    def __str__(self) -> str:
        """Return the whole report of this race."""
        shown = list(self.differences[:MOST_LINES])
        if more := len(self.differences) - len(shown):
            shown.append(f"… and {more} lines more")
        parts = [
            f"{self.schedule.value}: {self.schedule.meaning}. Another result than expected:",
            *(f"  {one}" for one in shown),
            "",
            *drawing(self.found.events),
            "",
            *self._stacks(),
            FIXES[self.schedule],
        ]
        return "\n".join(parts)

    def _stacks(self) -> list[str]:
        """Return where the first dispatch that is concerned is, and its transaction."""
        if (first := self._concerned()) is None:
            return []
        lines = [f"Dispatch of {first.call}:", *(f"    {one}" for one in first.where)]
        opened = self.found.plan.at or first.transaction
        if where := self.found.begun.get(opened or 0):
            lines += ["The transaction was opened here:", *(f"    {one}" for one in where)]
        return lines

    def _concerned(self) -> Dispatch | None:
        at = self.found.plan.at
        if self.schedule is Schedule.CRASH:  # it did not come to the dispatch
            found = [one for one in self.expected.dispatches if one.after == at]
        else:
            inside = [one for one in self.found.dispatches if one.transaction is not None]
            found = [one for one in inside if at in {None, one.transaction}]
        return next(iter([*found, *self.found.dispatches]), None)


def drawing(events: Sequence[Event]) -> list[str]:
    """Draw what happened, from top to bottom: the code on the left, the worker on the right."""
    lines = [f"    {'code':<{WIDTH}}worker", f"    {'─' * (WIDTH - 2)}  {'─' * 30}"]
    for event in events:
        text = (
            f"{event.text}  ({event.where.partition(' in ')[0]})" if event.where else event.text
        )
        if event.lane != BODY:
            lines.append(f"    {'':<{WIDTH}}{text}")
        elif len(text) < WIDTH:
            lines.append(f"    {text}")
        else:
            lines += [f"    {event.text}", f"      ({event.where.partition(' in ')[0]})"]
    return lines
