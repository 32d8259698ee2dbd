"""The Python package `websockets` as a client: python python.py ws://host:port/path.

Prints what it saw as JSON, in the order of conversation.js.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def conversation(url):
    seen = []
    async with connect(url) as socket:
        await socket.send("hello")
        seen.append(await socket.recv())
        await socket.send("żółw, 鱼, 🐟")
        seen.append(await socket.recv())
        await socket.send(bytes([0, 127, 128, 255]))
        seen.append(" ".join(str(byte) for byte in await socket.recv()))
        await socket.send("x" * 60000)
        seen.append(len(await socket.recv()))

        texts = [f"message {n}" for n in range(200)]
        for text in texts:
            await socket.send(text)
        heard = [await socket.recv() for _ in texts]
        seen.append(f"in order: {'true' if heard == texts else 'false'}")

        await socket.close(1000, "bye")
    clean = socket.close_code == 1000
    seen.append(f"closed: {socket.close_code} {'clean' if clean else 'not clean'}")
    return seen


async def too_big(url):
    async with connect(url) as socket:
        await socket.send("x" * 70000)
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return f"closed: {closed.rcvd.code} {closed.rcvd.reason}"


async def pong(url):
    async with connect(url) as socket:
        await (await socket.ping("are you there?"))
        return "pong: are you there?"


async def fragments(url):
    async with connect(url) as socket:
        await socket.send(["one, ", "two, ", "three"])
        return f"whole: {await socket.recv()}"


async def main(url):
    seen = await conversation(url)
    for further in (too_big, pong, fragments):
        seen.append(await further(url))
    print(json.dumps(seen))


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 30))
