"""python device.py URL json|protobuf CHANNEL COMMANDS: as device.js, with the Python SDK."""

import asyncio
import json
import sys

from centrifuge import Client, ClientEventHandler, PublicationContext, SubscriptionEventHandler

URL, ENCODING, CHANNEL, COMMANDS = sys.argv[1:5]
BINARY = ENCODING == "protobuf"


class Events(SubscriptionEventHandler):
    def __init__(self):
        self.came = asyncio.get_running_loop().create_future()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.came.set_result(ctx.pub)


async def main():
    page = Client(URL, events=ClientEventHandler(), use_protobuf=BINARY)
    await page.connect()
    events = Events()
    await page.new_subscription(CHANNEL, events).subscribe()
    pub = await asyncio.wait_for(events.came, 10)
    reading = json.loads(pub.data) if BINARY else pub.data
    answer = f"open {reading['device']}"
    await page.publish(COMMANDS, json.dumps(answer).encode() if BINARY else answer)
    await page.disconnect()
    seen = {"reading": reading, "user": pub.info.user, "client": len(pub.info.client)}
    print(json.dumps(seen))


asyncio.run(main())
