"""testcontainers of Python and of Node, which find the engine by what docker's context says or Cove leaves where they look, start ryuk with
the laptop's docker socket, and what they leave behind goes."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from busybox_image import archive
from laptop import Laptop
from ryuk_image import image as ryuk

pytestmark = [pytest.mark.root, pytest.mark.short, pytest.mark.timeout(1500)]

HERE = Path(__file__).parent
PAGE = "a page\n"
NODE = Path(sys.executable).with_name("node")
RYUKS = ("0.8.1", "0.14.0")
"""The versions that the libraries which are pinned ask for: Python's, Node's."""


@pytest.fixture(scope="module")
def images(laptop: Laptop) -> None:
    serve = 'CMD ["sh", "-c", "mkdir -p /www; [ -e /www/index.html ] || echo a page >/www/index.html; exec httpd -f -h /www"]'
    # As the first process of a container it heeds no SIGTERM.
    laptop.has_image("site:1", archive(), serve, "EXPOSE 80", "STOPSIGNAL SIGKILL")
    for version in RYUKS:
        made, changes = ryuk(version)
        laptop.has_image(f"testcontainers/ryuk:{version}", made, *changes)


@pytest.fixture
def project(laptop: Laptop, images: None, request: pytest.FixtureRequest) -> Path:
    """In the user's home: a Dockerfile, and an application of compose."""
    folder = laptop.home / request.node.name
    folder.mkdir()
    (folder / "index.html").write_text("built\n")
    (folder / "Dockerfile").write_text("FROM site:1\nCOPY index.html /www/\n")
    (folder / "compose.yaml").write_text(
        "services:\n  web:\n    image: site:1\n    ports: [80]\n    volumes: [./index.html:/www/index.html]\n"
    )
    return folder


def seen(laptop: Laptop, *words: str | Path) -> Any:
    """What a program says that ends by a SIGKILL."""
    done = laptop.run(*words, status=None)
    # The second is what the wheel's node makes of it, which is a program that starts the real one.
    assert done.returncode in (-signal.SIGKILL, 256 - signal.SIGKILL), done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def wait_for_ryuk(laptop: Laptop, since: float, left: dict[str, str]) -> None:
    """Ryuk gives who has gone ten seconds to come back, and removes what is left."""
    for kind, made in left.items():
        filters = ("--filter", f"{kind}={made}", "--filter", "event=destroy")
        told = laptop.first_line("docker", "events", "--since", str(int(since)), *filters, "--format", "{{.Action}}")
        assert told == "destroy", laptop.docker("ps", "-a")


def test_python(laptop: Laptop, project: Path) -> None:
    begin = time.time()
    told = seen(laptop, sys.executable, HERE / "python_user.py", project)
    assert told["compose"] == "built\n"
    assert (told["page"], told["exec"], told["built"]) == (PAGE, PAGE, "built\n")
    assert told["logs"] == f"{PAGE}seen\n"
    if laptop.takes_early:
        pytest.xfail(
            "this library does not wait until ryuk listens, and speaks to nobody then (docs/testcontainers.md)"
        )
    wait_for_ryuk(laptop, begin, told["left"])


def test_node(laptop: Laptop, project: Path) -> None:
    begin = time.time()
    told = seen(laptop, NODE, HERE / "node_user.mjs", project)
    assert told["compose"] == "built\n"
    assert (told["page"], told["exec"], told["again"], told["built"]) == (PAGE, PAGE, PAGE, "built\n")
    assert told["copied"] == "copied\n"
    assert told["logs"].split() == ["a", "page", "seen"]
    wait_for_ryuk(laptop, begin, told["left"])
