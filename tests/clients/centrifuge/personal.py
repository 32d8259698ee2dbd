"""python personal.py URL json|protobuf SECRET: a user's own channel from the server, tokens good and bad, deltas that are
asked for and not given, and a history that is too short, as the SDK's own tests have it."""

import asyncio
import base64
import hashlib
import hmac
import json
import sys

from centrifuge import Client, DeltaType

URL, ENCODING, SECRET = sys.argv[1:4]
BINARY = ENCODING == "protobuf"
WAIT = 10


def pack(value):
    return json.dumps(value).encode() if BINARY else value


def unpack(data):
    return json.loads(data) if BINARY else data


def sign(claims):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    message = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(SECRET.encode(), message, hashlib.sha256).digest()
    return (message + b"." + part(signature)).decode()


async def good():
    return sign({"sub": "42"})


async def good_for(channel):
    return sign({"sub": "42", "channel": channel})


async def bad(*_):
    return "invalid_token"


def client(get_token=good):
    return Client(URL, get_token=get_token, use_protobuf=BINARY)


def listen(events, name, take):
    """What `take` makes of each event of this name, in a queue."""
    queue = asyncio.Queue()

    async def hear(ctx):
        queue.put_nowait(take(ctx))

    setattr(events, name, hear)
    return queue


async def following(queue):
    return await asyncio.wait_for(queue.get(), WAIT)


async def own_channel():
    user = client()
    subscribed = listen(user.events, "on_subscribed", lambda ctx: ctx.channel)
    joined = listen(user.events, "on_join", lambda ctx: bool(ctx.info.client))
    published = listen(user.events, "on_publication", lambda ctx: unpack(ctx.pub.data))
    await user.connect()
    channel = await following(subscribed)
    seen = [channel, await following(joined)]
    await user.publish(channel, pack({"n": 1}))
    seen.append(await following(published))
    await user.disconnect()
    return seen


async def come_back(channel, publications):
    """Whether the first coming and the one after a pause were recovered, and what was heard after it."""
    away, there = client(), client()
    options = {"get_token": good_for, "delta": DeltaType.FOSSIL}
    sub, other = (it.new_subscription(channel, **options) for it in (away, there))
    recovered = listen(sub.events, "on_subscribed", lambda ctx: ctx.recovered)
    published = listen(sub.events, "on_publication", lambda ctx: unpack(ctx.pub.data))
    await away.connect()
    await sub.subscribe()
    seen = [await following(recovered)]
    await away.disconnect()
    await there.connect()
    await other.subscribe()
    for n in range(publications):
        await other.publish(pack(n))
    await away.connect()
    seen.append(await following(recovered))
    heard = [await following(published) for _ in range(publications if seen[1] else 0)]
    await away.disconnect()
    await there.disconnect()
    return [*seen, heard]


async def refused():
    nobody = client(bad)
    ended = listen(nobody.events, "on_disconnected", lambda ctx: ctx.code)
    await nobody.connect()
    user = client()
    sub = user.new_subscription("channel", get_token=bad)
    left = listen(sub.events, "on_unsubscribed", lambda ctx: ctx.code)
    await user.connect()
    await sub.subscribe()
    seen = [await following(ended), await following(left), user.state.value]
    await user.disconnect()
    return seen


async def main():
    seen = {
        "own": await own_channel(),
        "back": await come_back(f"room-{ENCODING}", 10),
        "late": await come_back(f"smallhistory:{ENCODING}", 5),
        "refused": await refused(),
    }
    print(json.dumps(seen))


asyncio.run(main())
