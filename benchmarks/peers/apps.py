"""The broker-backed queues as their own documentation sets them up; results are not kept.

Each worker process imports this, with ``BENCH_REDIS`` in its environment.
"""

import os

import celery
import dramatiq
import huey
import redis
import rq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers.rows import KINDS

URL = os.environ["BENCH_REDIS"]

celery_app = celery.Celery("bench", broker=URL)
celery_app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
CELERY = {kind: celery_app.task(name=kind)(call) for kind, call in KINDS.items()}

rq_redis = redis.Redis.from_url(URL)
rq_queue = rq.Queue("default", connection=rq_redis)

huey_app = huey.RedisHuey("bench", url=URL, results=False)
HUEY = {kind: huey_app.task(name=kind)(call) for kind, call in KINDS.items()}

dramatiq.set_broker(RedisBroker(url=URL))
DRAMATIQ = {kind: dramatiq.actor(call, actor_name=kind) for kind, call in KINDS.items()}
