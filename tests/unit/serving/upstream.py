"""A stand-in for an engine, run as a process of its own: slow, countable answers for the front door's tests.

POST takes, beside what a completion takes: `chunks` and `every_s` (a stream), `first_s` (seconds before anything).
Each answer names the port it came from. GET /seen says what headers the last POST had.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: dict[str, str] = {}  # noqa: RUF012
    posts = 0

    def do_GET(self) -> None:
        if self.path == "/health":
            self._json({"status": "ok"})
        else:
            self._json({"posts": Handler.posts, "headers": Handler.seen})

    def do_POST(self) -> None:
        body = json.loads(self._body())
        Handler.seen, Handler.posts = {k.lower(): v for k, v in self.headers.items()}, Handler.posts + 1
        time.sleep(body.get("first_s", 0))
        if not body.get("stream"):
            self._json({"port": self.server.server_address[1], "size": len(json.dumps(body))})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(body["chunks"]):
            data = f"data: {json.dumps({'n': number, 'port': self.server.server_address[1]})}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(body.get("every_s", 0))
        self.wfile.write(b"0\r\n\r\n")

    def _body(self) -> bytes:
        if "content-length" in self.headers:
            return self.rfile.read(int(self.headers["content-length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print("ready", flush=True)
    server.serve_forever()
