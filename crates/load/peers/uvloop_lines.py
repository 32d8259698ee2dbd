"""The line echo of asyncio_lines.py, unchanged, on uvloop's event loop.

Usage: uvloop_lines.py PORT
"""

import uvloop

import asyncio_lines

if __name__ == "__main__":
    asyncio_lines.main(run=uvloop.run)
