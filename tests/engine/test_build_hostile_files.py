"""Dockerfiles that nobody writes by hand: each ends in words, and the engine answers others meanwhile."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import docker
import pytest

from life_support import ask
from test_build_classic import context

pytestmark = [pytest.mark.root, pytest.mark.native]

ANSWER_S = 15.0
"""An answer that takes longer is none: other tests may run beside this one."""


class Watch:
    """Asks the engine all the time whether it is there."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._over = threading.Event()
        self.longest_s = 0.0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            begin = time.monotonic()
            assert ask(self._engine, "GET", "/_ping")[0] == 200
            self.longest_s = max(self.longest_s, time.monotonic() - begin)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def watch(engine: Any) -> Iterator[Watch]:
    made = Watch(engine)
    yield made
    made.close()
    assert made.longest_s < ANSWER_S * engine.slowness


def said(engine: Any, dockerfile: str, **files: str | bytes) -> str:
    """The error, or ""."""
    with closing(docker.APIClient(engine.url, timeout=120)) as client:
        try:
            sent = io.BytesIO(context(dockerfile, **files))
            messages = [*client.build(fileobj=sent, custom_context=True, decode=True)]
        except docker.errors.APIError as refused:
            assert refused.response.status_code == 400
            return str(refused.explanation)
        return str(messages[-1].get("error", ""))


BASE = "FROM busybox\n"
X = "x" * 60_000


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        (BASE + "ENV A=b\n" * 10_001, "dockerfile has more than 10000 instructions"),
        (
            BASE + f"ENV a={X}\n" + "".join(f"LABEL l{n}=$a$a$a$a$a$a$a$a\n" for n in range(100)),
            "have more than 8 MiB",
        ),
        (BASE + f"ARG a={X}\n" + "".join(f"ARG l{n}=$a$a$a$a$a$a$a$a\n" for n in range(100)), "have more than 8 MiB"),
        (BASE + "ARG a=xxxxxxxxxx\n" + "ARG a=$a$a$a$a\n" * 40, "variables of more than 4194304 characters"),
        ("FROM scratch AS a\nCOPY --from=0 /x /y\n", "invalid from flag value 0: refers to current build stage"),
        ("FROM scratch AS a\nCOPY --from=1 /x /y\n", "invalid from flag value 1: index out of bounds"),
        (BASE + "COPY " + "*a" * 100 + "b /\n", "COPY failed: no source files were specified"),
    ],
    ids=["instructions", "labels", "arguments", "doubling", "itself", "later", "wildcards"],
)
def test_too_much_is_refused(engine: Any, watch: Watch, dockerfile: str, words: str) -> None:
    assert words in said(engine, dockerfile, **{"a" * 200: "x"})


def test_thousands_of_instructions_are_no_more_than_that(engine: Any, watch: Watch) -> None:
    stages = "".join(f"FROM s{number} AS s{number + 1}\nENV a{number}=b\n" for number in range(300))
    assert said(engine, f"FROM busybox AS s0\n{stages}") == ""
    assert said(engine, BASE + "".join(f"LABEL l{number}=x\n" for number in range(1000))) == ""


def test_what_is_ignored_has_bounds(engine: Any, watch: Watch) -> None:
    copy = BASE + "COPY . /x\n"
    for ignored in ("a*b?c\n" * 10_001, "x" * ((1 << 20) + 1)):
        assert said(engine, copy, _dockerignore=ignored) == ".dockerignore has more than 1 MiB, or 10000 patterns"
    assert said(engine, copy, _dockerignore="*a" * 200 + "b\n", **{"a" * 250: "x"}) == ""


def test_a_folder_is_no_dockerfile(engine: Any) -> None:
    with closing(docker.APIClient(engine.url, timeout=60)) as client:
        sent = io.BytesIO(context(BASE, Folder__file="x"))
        with pytest.raises(docker.errors.APIError) as refused:
            [*client.build(fileobj=sent, custom_context=True, dockerfile="Folder")]
        assert refused.value.explanation == "Cannot locate specified Dockerfile: Folder"
