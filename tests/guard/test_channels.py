"""Messages to channel layers: in memory, and by Redis."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from aftercommit.errors import DispatchInTransaction
from tests.brokers.addresses import broker_url, is_there, queue_name

pytestmark = pytest.mark.django_db(transaction=True)
pytest.importorskip("channels")

LAYERS = {
    "memory": "channels.layers.InMemoryChannelLayer",
    "own": "tests.guard.test_channels.OwnLayer",
    "redis": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
WAYS = {"send": "channel", "group_send": "group"}
MESSAGE = {"type": "order.placed", "secret": "1234"}


class OwnLayer:
    """A layer of a project, which has no class in common with the others."""

    def __init__(self):
        self.sent = []

    async def send(self, channel, message):
        """Keep it."""
        self.sent.append(message)

    async def group_send(self, group, message):
        """Send it to the only member."""
        await self.send(group, message)


@pytest.fixture(params=LAYERS)
def layer(request, settings):
    """Set up a layer; return a function that makes it, as the settings say."""
    config = {}
    if request.param in ("redis", "pubsub"):
        pytest.importorskip("channels_redis")
        if not is_there("redis"):
            pytest.skip("no Redis")
        config = {"hosts": [broker_url("redis")], "prefix": queue_name("channels")}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYERS[request.param], "CONFIG": config}}
    from channels.layers import channel_layers, get_channel_layer  # noqa: PLC0415 - optional

    channel_layers.backends.clear()
    yield get_channel_layer
    if hasattr(layer := get_channel_layer(), "flush"):
        async_to_sync(layer.flush)()
    channel_layers.backends.clear()


@pytest.mark.parametrize("way", WAYS)
def test_a_message_is_refused_without_its_contents(way, layer, watch):
    watch(mode="log", adapters={"channels": "raise"})
    with transaction.atomic(), pytest.raises(DispatchInTransaction) as caught:
        async_to_sync(getattr(layer(), way))("orders", MESSAGE)

    finding = caught.value.finding
    subject = f"A message to the {WAYS[way]} orders"
    assert (finding.rule, finding.adapter, finding.subject) == ("AC401", "channels", subject)
    assert "1234" not in str(finding)


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_was_there_before_the_guard_is_noticed(way, layer, watch):
    there = layer()
    watch(mode="log", adapters={"channels": "raise"})
    with transaction.atomic(), pytest.raises(DispatchInTransaction):
        async_to_sync(getattr(there, way))("orders", MESSAGE)


@pytest.mark.parametrize("way", WAYS)
def test_a_message_that_is_logged_is_one_finding_and_sent(way, layer, watch, found):
    watch(mode="raise", adapters={"channels": "log"})

    async def talk():
        there = layer()
        channel = await there.new_channel() if hasattr(there, "new_channel") else "orders"
        if way == "group_send" and hasattr(there, "group_add"):
            await there.group_add("orders", channel)
        await getattr(there, way)(channel if way == "send" else "orders", MESSAGE)
        return await there.receive(channel) if hasattr(there, "receive") else there.sent[0]

    with transaction.atomic():
        message = async_to_sync(talk)()

    assert {name: message[name] for name in MESSAGE} == MESSAGE
    assert [mode for _finding, mode in found] == ["log"]


@pytest.mark.parametrize("way", WAYS)
def test_after_the_commit_a_message_is_right(way, layer, watch, found):
    watch(mode="raise", adapters={"channels": "raise"})
    with transaction.atomic():
        transaction.on_commit(
            lambda: async_to_sync(getattr(layer(), way))(message=MESSAGE, **{WAYS[way]: "orders"})
        )

    assert found == []


def test_a_consumer_that_sends_outside_of_transactions_is_right(layer, watch, found):
    watch(mode="raise", adapters={"channels": "raise"})
    asyncio.run(layer().group_send("orders", MESSAGE))

    assert found == []


def test_channels_of_single_connections_are_one_finding(settings, watch):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": LAYERS["memory"]}}
    from channels.layers import get_channel_layer  # noqa: PLC0415 - optional

    watch(mode="log", adapters={"channels": "raise"})
    with transaction.atomic(), pytest.raises(DispatchInTransaction) as caught:
        async_to_sync(get_channel_layer().send)("specific.abc!def", MESSAGE)

    assert caught.value.finding.subject == "A message to the channel specific.abc"


def test_nothing_is_noticed_until_the_settings_name_a_mode(layer, watch, found):
    watch(mode="raise")
    with transaction.atomic():
        async_to_sync(layer().group_send)("orders", MESSAGE)

    assert found == []
