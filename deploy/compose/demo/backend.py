"""The demo's backend: answers POSTs after a moment, one in a hundred slowly, and some with 500.
Usage: backend.py [PORT]"""

import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def do_POST(self):
        order = self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(1.0 if random.random() < 0.01 else random.expovariate(200))
        failed = random.random() < 0.002
        body = b"no luck" if failed else b"taken: " + order
        self.send_response(500 if failed else 200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    ThreadingHTTPServer(("", port), Orders).serve_forever()
