"""Two processes that want the same file."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

DATA = bytes(range(256)) * 4000
CODE = """
import sys
from pathlib import Path
from cove.image.download import Downloader, Wanted
wanted = Wanted("file", sys.argv[2], sys.argv[3], int(sys.argv[4]))
print(Downloader(Path(sys.argv[1])).fetch(wanted))
"""


class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        for start in range(0, len(DATA), 64_000):
            self.wfile.write(DATA[start : start + 64_000])

    def log_message(self, *arguments: object) -> None:
        pass


def test_each_gets_it_whole_and_it_comes_once(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.asked = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    digest = hashlib.sha256(DATA).hexdigest()
    folder = tmp_path / "packages"
    folder.mkdir()
    words = [
        sys.executable,
        "-c",
        CODE,
        str(folder),
        f"http://127.0.0.1:{server.server_port}/f",
        digest,
        str(len(DATA)),
    ]
    start = functools.partial(subprocess.Popen, words, stdout=subprocess.PIPE, text=True)
    both = [start(), start()]
    said = [one.communicate(timeout=60)[0].strip() for one in both]
    server.shutdown()
    assert [one.returncode for one in both] == [0, 0]
    assert said == [str(folder / digest)] * 2
    assert (folder / digest).read_bytes() == DATA
    assert server.asked == 1  # type: ignore[attr-defined]
    assert [one.name for one in folder.iterdir()] == [digest]
