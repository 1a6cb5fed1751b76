"""Findings as events of Sentry, an issue for each place: ``"sentry": True``."""

from typing import Any

import sentry_sdk

from aftercommit.guard.conf import RAISE
from aftercommit.guard.findings import Finding
from aftercommit.guard.frames import shown


def report(finding: Finding, mode: str, **_: Any) -> None:
    """Send an event; a receiver of ``race_found``. What is raised is an event anyway."""
    if mode == RAISE:
        return
    place = finding.place
    where = f"{shown(place.path)}:{place.line}"
    with sentry_sdk.new_scope() as scope:
        scope.fingerprint = ["aftercommit.guard", finding.rule, where]
        scope.set_tag("aftercommit.rule", finding.rule)
        scope.set_tag("aftercommit.adapter", finding.adapter)
        scope.set_context("aftercommit guard", {"report": str(finding)})
        sentry_sdk.capture_message(f"{where}: {finding.rule} {finding.message}", level="warning")
