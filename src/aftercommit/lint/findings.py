"""What the linter says about one place."""

from dataclasses import dataclass

from aftercommit.race_rules import RULES, Severity


@dataclass(frozen=True, slots=True)
class Step:
    """One step on the way from a transaction to a dispatch."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A place that breaks a rule."""

    rule: str
    severity: Severity
    path: str
    line: int
    end_line: int
    column: int  # from 0
    message: str
    subject: str
    chain: tuple[Step, ...] = ()
    using: str | None = None  # for --fix: how the alias is written, "" for the default; None: no

    @property
    def order(self) -> tuple[str, int, int, str]:
        """Return the order in which findings are printed."""
        return self.path, self.line, self.column, self.rule


def finding(
    rule: str,
    *,
    path: str,
    line: int,
    end_line: int,
    column: int,
    subject: str,
    severity: Severity | None = None,
    chain: tuple[Step, ...] = (),
) -> Finding:
    """Return a finding with the sentence of its rule; ``severity``: another than the rule's."""
    known = RULES[rule]
    return Finding(
        rule=rule,
        severity=severity or known.severity,
        path=path,
        line=line,
        end_line=end_line,
        column=column,
        message=known.message(subject),
        subject=subject,
        chain=chain,
    )
