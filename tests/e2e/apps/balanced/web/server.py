"""Says which container answers."""

import contextlib
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{socket.gethostname()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


with contextlib.suppress(KeyboardInterrupt):  # told to stop
    ThreadingHTTPServer(("", 8000), Page).serve_forever()
