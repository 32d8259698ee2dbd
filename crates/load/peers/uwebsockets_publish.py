"""Publish and subscribe with uWebSockets (C++) as the documentation of its Python binding `socketify`
teaches it: what comes in on /pub is published to the topic of everybody on another path. A delivery
never enters Python, and neither does the loop: the binding's own `run` would poll it from asyncio.

Usage: uwebsockets_publish.py PORT
"""

import sys

from socketify import App, AppListenOptions, OpCode

app = App()


def subscribe(ws):
    ws.subscribe("c0")


def publish(ws, message, opcode):
    app.publish("c0", message, OpCode.TEXT)


app.ws("/pub", {"message": publish})
app.ws("/sub", {"open": subscribe})
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda config: None)
app.loop.uv_loop.run()
