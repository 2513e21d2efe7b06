"""Keeps each datagram as a line and acknowledges it with the line's number; over HTTP it shows all of them."""

import contextlib
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LINES = Path("/var/log/collected/lines")
LINES.touch()
count = len(LINES.read_bytes().splitlines())


class Datagram(socketserver.DatagramRequestHandler):
    def handle(self):
        global count
        line = self.rfile.read().strip().replace(b"\n", b" ")
        with LINES.open("ab") as file:
            file.write(line + b"\n")
        count += 1
        self.wfile.write(b"%d\n" % count)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = LINES.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


threading.Thread(target=ThreadingHTTPServer(("", 8000), Page).serve_forever, daemon=True).start()
with contextlib.suppress(KeyboardInterrupt):  # told to stop
    socketserver.UDPServer(("", 514), Datagram).serve_forever()
