"""Records what docker's client draws of a stream of progress, into docker_progress.json, for test_jsonmessage.py.

    python tests/unit/cli/record_progress.py

Needs a `docker` of version 28 on the PATH, and no engine.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from told_engine import engine_at, on_terminal, stream

FIXTURE = Path(__file__).with_name("docker_progress.json")
WIDTHS = (0, 51, 80, 110, 111, 200)


def _layer(identity: str, status: str, **progress: Any) -> dict[str, Any]:
    return {"status": status, "progressDetail": progress, "id": identity}


MESSAGES: list[dict[str, Any]] = [
    {"status": "Pulling from library/x", "id": "latest"},
    *(_layer(identity, "Pulling fs layer") for identity in ("aaa", "bbb", "ccc")),
    _layer("bbb", "Waiting"),
    *(
        _layer(identity, "Downloading", current=current, total=3000000)
        for current in (0, 1, 999, 1000, 123456, 999999, 2999999, 3000000)
        for identity in ("aaa", "ccc")
    ),
    _layer("bbb", "Downloading", current=1048576),
    _layer("bbb", "Downloading", current=2097152, total=1048576),
    _layer("bbb", "Extracting", current=12, units="s"),
    _layer("bbb", "Extracting", current=12, total=24, units="files"),
    _layer("bbb", "Extracting", current=50, total=24, units="files"),
    _layer("bbb", "Extracting", current=1, total=4, hidecounts=True),
    {"status": "Old", "progress": "[==>  ] 1/2", "id": "aaa"},
    _layer("ccc", "Pull complete"),
    {"status": "Nobody's", "progressDetail": {"current": 1, "total": 2}},
    {"aux": {"ID": "sha256:1"}},
    {"status": "Digest: sha256:1"},
    _layer("aaa", "A new block"),
    _layer("ddd", "Its second"),
    _layer("aaa", "Its first again", current=1, total=3),
    {"stream": "Step 1\n"},
    {"stream": "Step 2", "progressDetail": {}},
    {"stream": "Step 3", "progressDetail": {"current": 1}},
    {"status": "from", "from": "there", "id": "eee", "time": 1700000000},
    {"status": "then", "timeNano": 1700000000123456789},
    {},
    {"status": "Status: Downloaded"},
]
FAILURE = {"errorDetail": {"code": 1, "message": "it broke"}, "error": "it broke"}


def record() -> dict[str, Any]:
    """{messages, drawn: {columns: what docker draws of them}}, and on no terminal at 200 columns."""
    import subprocess

    drawn = {}
    with tempfile.TemporaryDirectory() as folder, engine_at(Path(folder) / "engine.sock") as engine:
        engine.answers["POST", "/images/create"] = 200, stream([*MESSAGES, FAILURE])
        environment = os.environ | {"DOCKER_HOST": f"unix://{engine.path}", "DOCKER_CONFIG": folder, "TZ": "UTC"}
        command = ["docker", "pull", "x:1"]
        for columns in WIDTHS:
            drawn[str(columns)] = on_terminal(command, 24, columns, environment)[1]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    return {"messages": [*MESSAGES, FAILURE], "drawn": drawn, "piped": done.stdout, "told": done.stderr}


if __name__ == "__main__":
    FIXTURE.write_text(json.dumps(record(), indent=1) + "\n")
