"""What the guard announces."""

from django.dispatch import Signal

# finding: Finding, mode: str. Something was found that is neither allowed nor in the baseline.
# Sent before the mode is applied, so also before an exception is raised. An exception of a
# receiver is logged.
race_found = Signal()
