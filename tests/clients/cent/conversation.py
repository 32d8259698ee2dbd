"""python conversation.py WS_URL API_URL KEY TOKEN: a subscriber, and a backend that does everything
the server API has, by the Python SDKs of both. Prints what each of them saw."""

import asyncio
import json
import sys

import cent
from centrifuge import (
    Client,
    ClientEventHandler,
    PublicationContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

WS_URL, API_URL, KEY, TOKEN = sys.argv[1:5]


class Connection(ClientEventHandler):
    def __init__(self):
        self.subscribed, self.published, self.unsubscribed, self.left = [], [], [], []

    async def on_subscribed(self, ctx) -> None:
        self.subscribed.append(ctx.channel)

    async def on_publication(self, ctx) -> None:
        self.published.append([ctx.channel, ctx.pub.data])

    async def on_unsubscribed(self, ctx) -> None:
        self.unsubscribed.append(ctx.channel)

    async def on_disconnected(self, ctx) -> None:
        self.left.append([ctx.code, ctx.reason])


class Room(SubscriptionEventHandler):
    def __init__(self):
        self.subscribed, self.published, self.unsubscribed = asyncio.Event(), [], []

    async def on_subscribed(self, ctx) -> None:
        self.subscribed.set()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.published.append([ctx.pub.offset, ctx.pub.data])

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self.unsubscribed.append(ctx.code)


async def until(what, holds):
    for _ in range(2000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(what)


async def code(call):
    try:
        await call
    except cent.CentApiResponseError as error:
        return error.code
    return None


async def main():
    seen = {}
    connection, room = Connection(), Room()
    client = Client(WS_URL, events=connection, token=TOKEN)
    await client.connect()
    subscription = client.new_subscription("room", room)
    await subscription.subscribe()
    await asyncio.wait_for(room.subscribed.wait(), 5)

    api = cent.AsyncClient(API_URL, api_key=KEY)
    first = await api.publish(cent.PublishRequest(channel="room", data={"n": 1}))
    seen["first"] = [first.offset, len(first.epoch)]
    keyed = cent.PublishRequest(channel="room", data={"n": 2}, idempotency_key="k")
    seen["keyed"] = [(await api.publish(keyed)).offset for _ in range(2)]
    answer = await api.broadcast(
        cent.BroadcastRequest(channels=["room", "nothing:x"], data={"n": 3}, tags={"a": "b"})
    )
    seen["broadcast"] = [
        one.result.offset if one.result else one.error.code for one in answer.responses
    ]
    await until("three publications", lambda: len(room.published) == 3)
    seen["published"] = room.published

    presence = await api.presence(cent.PresenceRequest(channel="room"))
    seen["presence"] = [info.user for info in presence.presence.values()]
    stats = await api.presence_stats(cent.PresenceStatsRequest(channel="room"))
    seen["stats"] = [stats.num_clients, stats.num_users]
    page = await api.history(cent.HistoryRequest(channel="room", limit=2, reverse=True))
    seen["history"] = [[one.offset, one.data, one.tags] for one in page.publications]
    channels = await api.channels(cent.ChannelsRequest(pattern="ro*"))
    seen["channels"] = {name: info.num_clients for name, info in channels.channels.items()}
    node = (await api.info(cent.InfoRequest())).nodes[0]
    seen["info"] = [node.name, node.num_clients, node.num_users, node.num_subs]

    await api.subscribe(cent.SubscribeRequest(user="ann", channel="given", data={"hello": 1}))
    await until("a subscription", lambda: connection.subscribed == ["given"])
    await api.publish(cent.PublishRequest(channel="given", data=4))
    await until("its publication", lambda: connection.published == [["given", 4]])
    await api.unsubscribe(cent.UnsubscribeRequest(user="ann", channel="given"))
    await until("its end", lambda: connection.unsubscribed == ["given"])
    await api.unsubscribe(cent.UnsubscribeRequest(user="ann", channel="room"))
    await until("the room's end", lambda: room.unsubscribed == [2000])
    await api.refresh(cent.RefreshRequest(user="ann", expire_at=9000000000))

    batch = await api.batch(
        cent.BatchRequest(
            requests=[
                cent.PublishRequest(channel="other", data=1),
                cent.HistoryRequest(channel="other", limit=1),
            ]
        )
    )
    seen["batch"] = [batch.replies[0].offset, batch.replies[1].publications[0].data]
    await api.history_remove(cent.HistoryRemoveRequest(channel="room"))
    page = await api.history(cent.HistoryRequest(channel="room", limit=10))
    seen["removed"] = [page.offset, len(page.publications)]
    seen["unknown"] = await code(api.publish(cent.PublishRequest(channel="nothing:x", data=1)))

    await api.disconnect(
        cent.DisconnectRequest(user="ann", disconnect=cent.Disconnect(code=4500, reason="enough"))
    )
    await until("the disconnect", lambda: connection.left)
    seen["left"] = connection.left
    stranger = cent.AsyncClient(API_URL, api_key="nobody's key of that length")
    try:
        await stranger.info(cent.InfoRequest())
    except cent.CentUnauthorizedError:
        seen["stranger"] = "unauthorized"
    await stranger.close()
    await api.close()
    print(json.dumps(seen))


asyncio.run(main())
