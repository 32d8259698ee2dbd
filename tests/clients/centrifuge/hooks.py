"""python hooks.py URL json|protobuf: what a client notices of a backend that has its say."""

import asyncio
import json
import sys

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

URL, ENCODING = sys.argv[1:3]
BINARY = ENCODING == "protobuf"


def pack(value):
    return json.dumps(value).encode() if BINARY else value


def unpack(data):
    return json.loads(data) if BINARY else data


class Connection(ClientEventHandler):
    def __init__(self):
        self.connected = asyncio.get_running_loop().create_future()

    async def on_connected(self, ctx) -> None:
        self.connected.set_result(unpack(ctx.data))


class Room(SubscriptionEventHandler):
    def __init__(self):
        self.published, self.subscribed = asyncio.Queue(), asyncio.Event()

    async def on_subscribed(self, ctx) -> None:
        self.subscribed.set()

    async def on_publication(self, ctx) -> None:
        await self.published.put(unpack(ctx.pub.data))


async def main():
    seen = {}
    events = Connection()
    ann = Client(URL, events=events, use_protobuf=BINARY, data=pack({"pin": 1}))
    await ann.connect()
    seen["connected"] = await asyncio.wait_for(events.connected, 5)
    room = Room()
    sub = ann.new_subscription("asked:room", room)
    await sub.subscribe()
    await asyncio.wait_for(room.subscribed.wait(), 5)
    await sub.publish(pack({"text": "hello"}))
    seen["published"] = await asyncio.wait_for(room.published.get(), 5)
    seen["sum"] = unpack((await ann.rpc("add", pack([1, 2]))).data)
    try:
        await ann.rpc("fail", pack({}))
    except ReplyError as error:
        seen["failed"] = [error.code, error.message]
    await ann.disconnect()
    print(json.dumps(seen))


asyncio.run(main())
