"""A receipt for each order, sent in two ways."""

import logging
from functools import partial

from celery import Celery, chain, chord, group
from django.db import transaction

from shop.models import Order

app = Celery("shop", broker="memory://", set_as_current=False)
app.conf.task_always_eager = True  # as many suites have it


@app.task
def send_receipt(pk):
    logging.getLogger("shop").warning("A receipt is sent")
    Order.objects.filter(pk=pk).update(mailed=True)


def order_naively():
    with transaction.atomic():
        order = Order.objects.create()
        send_receipt.delay(order.pk)
    return order


def order_rightly():
    with transaction.atomic():
        order = Order.objects.create()
        transaction.on_commit(partial(send_receipt.delay, order.pk))
    return order


CANVASES = {
    "chain": lambda one: chain(one, one),
    "group": lambda one: group(one, one),
    "chord": lambda one: chord([one], one),
}


def order_by_canvas(name):
    with transaction.atomic():
        order = Order.objects.create()
        CANVASES[name](send_receipt.si(order.pk)).delay()
