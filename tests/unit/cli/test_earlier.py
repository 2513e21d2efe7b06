"""`IMAGE~N`: which image each verb asks the engine for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from told_engine import COVE, Engine, engine_at, stream

HERE, BASE, MADE = (f"sha256:{letter * 64}" for letter in "abc")
ROWS = [
    {"Id": one, "Created": 1700000000, "CreatedBy": "x", "Tags": None, "Size": 0, "Comment": ""}
    for one in (HERE, BASE, "<missing>")
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_at(tmp_path / "engine.sock") as made:
        made.answers["GET", "/images/app/history"] = 200, ROWS
        made.answers["POST", "/images/create"] = 200, stream([{"status": MADE}])
        yield made


@pytest.fixture
def run(engine: Engine) -> Run:
    def cove(*words: str) -> tuple[int, str, str]:
        environment = os.environ | {"COVE_HOST": engine.url}
        done = subprocess.run([*COVE, *words], env=environment, capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout, done.stderr

    return cove


@pytest.mark.parametrize(
    ("given", "identity"), [("app~", BASE), ("app~1", BASE), ("app~2", MADE), ("app~7", MADE), ("app~0", "app")]
)
def test_the_image_that_the_history_names_is_taken_and_others_are_made(
    engine: Engine, run: Run, given: str, identity: str
) -> None:
    engine.answers["POST", f"/images/{identity}/tag"] = 201, {}
    assert run("tag", given, "app:good") == (0, "", "")
    made = [request.query["fromSrc"] for request in engine.requests if request.path == "/images/create"]
    assert made == ([f"back:{given[4:]}:app"] if identity == MADE else [])


def test_every_verb_that_names_an_image_takes_it(engine: Engine, run: Run, tmp_path: Path) -> None:
    engine.answers["GET", f"/images/{BASE}/json"] = 200, {"Id": BASE}
    engine.answers["GET", f"/images/{BASE}/history"] = 200, ROWS[1:2]
    engine.answers["GET", "/images/get"] = 200, b"archive"
    engine.answers["POST", "/containers/create"] = 201, {"Id": "c1", "Warnings": []}
    assert run("image", "inspect", "-f", "{{.Id}}", "app~1") == (0, f"{BASE}\n", "")
    assert run("inspect", "-f", "{{.Id}}", "app~1") == (0, f"{BASE}\n", "")
    assert run("history", "-q", "app~1") == (0, f"{BASE[7:19]}\n", "")
    assert run("save", "-o", str(tmp_path / "a.tar"), "app~1") == (0, "", "")
    assert run("create", "app~1", "x") == (0, "c1\n", "")
    asked = {request.path: request for request in engine.requests}
    assert asked["/images/get"].query["names"] == BASE
    assert f'"Image":"{BASE}"'.encode() in asked["/containers/create"].body


@pytest.mark.parametrize(
    ("verb", "instead"), [("rmi", "its id, which cove history app shows"), ("push", "cove tag app~1 NAME")]
)
def test_what_needs_a_name_says_so(engine: Engine, run: Run, verb: str, instead: str) -> None:
    status, out, told = run(verb, "app~1")
    assert (status, out, engine.requests) == (1, "", [])
    assert told.startswith("cove: app~1 is a step in the history of app, ")
    assert instead in told


def test_an_image_that_is_not_there_is_told_by_its_name(engine: Engine, run: Run) -> None:
    engine.answers["GET", "/images/no/history"] = 404, {"message": "No such image: no:latest"}
    assert run("image", "inspect", "no~1") == (1, "[]\n", "Error response from daemon: No such image: no:latest\n")
