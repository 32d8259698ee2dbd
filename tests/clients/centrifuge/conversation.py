"""python conversation.py URL json|protobuf: every command of the Python SDK once, with its answer."""

import asyncio
import json
import sys

from centrifuge import (
    Client,
    ClientEventHandler,
    PublicationContext,
    ReplyError,
    SubscriptionEventHandler,
)

URL, ENCODING = sys.argv[1:3]
BINARY = ENCODING == "protobuf"


def pack(value):
    return json.dumps(value).encode() if BINARY else value


def unpack(data):
    return json.loads(data) if BINARY else data


class Events(SubscriptionEventHandler):
    def __init__(self):
        self.published, self.subscribed, self.left = [], asyncio.Event(), asyncio.Event()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.published.append([ctx.pub.offset, unpack(ctx.pub.data)])

    async def on_subscribed(self, ctx) -> None:
        self.subscribed.set()

    async def on_leave(self, ctx) -> None:
        self.left.set()


async def until(what, holds):
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(what)


async def main():
    seen = {}
    ann, bob = (Client(URL, events=ClientEventHandler(), use_protobuf=BINARY) for _ in range(2))
    await ann.connect()
    events = Events()
    modes = {"recoverable": True, "positioned": True, "join_leave": True}
    room = ann.new_subscription("room", events, **modes)
    await room.subscribe()
    await asyncio.wait_for(events.subscribed.wait(), 5)

    await bob.connect()
    other = Events()
    second = bob.new_subscription("room", other)
    await second.subscribe()
    await asyncio.wait_for(other.subscribed.wait(), 5)
    await second.publish(pack({"n": 1}))
    await room.publish(pack({"n": "żółw"}))
    await until("two publications", lambda: len(events.published) == 2)
    seen["published"] = events.published

    history = await room.history(limit=10)
    seen["history"] = [unpack(one.data) for one in history.publications]
    seen["presence"] = len((await room.presence()).clients)
    stats = await room.presence_stats()
    seen["stats"] = [stats.num_clients, stats.num_users]
    try:
        await ann.rpc("nothing", pack({}))
    except ReplyError as error:
        seen["rpc"] = error.code
    await second.unsubscribe()
    await asyncio.wait_for(events.left.wait(), 5)
    await ann.disconnect()
    await bob.disconnect()
    print(json.dumps(seen))


asyncio.run(main())
