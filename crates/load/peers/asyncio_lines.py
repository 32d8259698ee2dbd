"""A line echo as asyncio's documentation teaches it: one coroutine a connection, one line at a time.

Usage: asyncio_lines.py PORT
"""

import asyncio
import sys


async def echo(reader, writer):
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(port):
    server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


def main(run=asyncio.run):
    run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
