"""Publish and subscribe as the documentation of Python's `websockets` teaches it: what comes in on /pub
is broadcast to everybody on another path.

Usage: websockets_broadcast.py PORT
"""

import asyncio
import sys

from websockets.asyncio.server import broadcast, serve

subscribers = set()


async def handle(websocket):
    if websocket.request.path == "/pub":
        async for message in websocket:
            broadcast(subscribers, message)
        return
    subscribers.add(websocket)
    try:
        await websocket.wait_closed()
    finally:
        subscribers.remove(websocket)


async def main(port):
    async with serve(handle, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
