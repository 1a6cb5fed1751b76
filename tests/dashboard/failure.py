"""A worker, and how a run of it has failed: what filled databases show."""

from uuid import UUID

WORKER = UUID("01a22d94-6163-7bf0-a189-01ace438ddc5")
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/payments/tasks.py", line 41, in charge
    gateway.charge(order.card, order.total)
  File "/srv/shop/payments/gateway.py", line 118, in charge
    raise CardDeclined(f"the card of order {order.id} was declined: insufficient funds")
shop.payments.errors.CardDeclined: the card of order 4711 was declined: insufficient funds
"""
ERROR = {
    "exception_class_path": "shop.payments.errors.CardDeclined",
    "traceback": TRACEBACK,
    "worker_id": str(WORKER),
}
