"""The demo's devices: 50 connections that each send an order every now and then and read what comes
back. One in a while hangs up and comes again. Usage: orders.py HOST PORT"""

import asyncio
import random
import sys


async def device(host, port, number):
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            for order in range(random.randrange(20, 200)):
                writer.write(f"device {number}, order {order}\n".encode())
                await writer.drain()
                if not await reader.readline():
                    break
                await asyncio.sleep(random.expovariate(2))
            writer.close()
        except OSError as error:
            print(f"device {number}: {error}")
            await asyncio.sleep(1)


async def main(host, port):
    await asyncio.gather(*(device(host, port, number) for number in range(50)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
