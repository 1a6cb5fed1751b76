"""What operators may do about queues while workers run: pause, resume, limit, rate, list.

The commands and the admin's page call these functions, and so may your code.
"""

from aftercommit.queues.limiting import Limited, limit, limits, unlimit
from aftercommit.queues.listed import Queue, list
from aftercommit.queues.named import Answer
from aftercommit.queues.pauses import Paused, pause, paused, resume
from aftercommit.queues.rates import PausedRate, paused_rates
from aftercommit.queues.rating import Rated, rate, rates, unrate

__all__ = [
    "Answer",
    "Limited",
    "Paused",
    "PausedRate",
    "Queue",
    "Rated",
    "limit",
    "limits",
    "list",
    "pause",
    "paused",
    "paused_rates",
    "rate",
    "rates",
    "resume",
    "unlimit",
    "unrate",
]
