#!/usr/bin/env python3
"""Builds the Dockerfiles of buildah's conformance tests on two engines, and says where the images differ.

Run by hand, as root (some contexts hold files of other owners):

    buildah_conformance.py CHECKOUT OURS THEIRS --base ROOT.tar [--docker DOCKER] [--only WORD] [-v]

CHECKOUT is a checkout of github.com/containers/buildah (nothing of it is kept here); OURS and THEIRS are sockets; ROOT.tar
is a root file system with busybox, which stands for all base images that a case names, as such a run should need no network.
DOCKER_CONFIG must name a folder with the plugin buildx. Cases whose Dockerfile asks for a newer frontend (``# syntax=``) are
built without that line: THEIRS then has to know all that they use.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import buildah_cases
import image_trees
from buildah_cases import Case
from go_source import NotUnderstood

_FROM = re.compile(r"^\s*(?:FROM|COPY --from=|ADD --from=).*", re.IGNORECASE | re.MULTILINE)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}|\$\{TARGETARCH:\+@sha256:[0-9a-f]{64}\}")
_SYNTAX = re.compile(r"^#\s*syntax=.*\n", re.MULTILINE)
_IMAGES = ("mirror.gcr.io/busybox", "mirror.gcr.io/alpine", "quay.io/libpod/centos:7", "quay.io/libpod/busybox")
_CONFIG = (
    "Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Volumes", "ExposedPorts", "Labels", "Healthcheck", "OnBuild",
    "StopSignal", "Shell", "ArgsEscaped", "StopTimeout",
)  # fmt: skip
_CONTENT = re.compile(r"\b(file|dir|multi):[0-9a-f]{64}\b")
"""How the classic builder calls what it has copied: the digest is each engine's own."""
_PORTS = re.compile(r"^EXPOSE map\[(.*)\]$")
"""dockerd 26.1's words; BuildKit today says ``EXPOSE [80/tcp]``."""
KNOWN = {
    "dockerignore-exclude-kind-of-deep-subdir-star": (
        "dockerd 26.1's BuildKit looks for the file that the first pattern excludes and fails; buildah, dockerd's classic builder and"
        " ours build it"
    ),
}
"""Cases that differ, by their names, and why they may."""
_NEEDS = {"--parents": "COPY --parents", "--exclude": "--exclude", "quay.io/fedora": "another base image's programs"}


@dataclass(frozen=True)
class Outcome:
    """``image`` is None when the build failed; ``said`` is then the error."""

    image: image_trees.Image | None
    said: str


class Engine:
    """An engine, by its socket."""

    def __init__(self, docker: str, socket: str, scratch: Path) -> None:
        self._docker, self._scratch = docker, scratch
        self._environment = {**os.environ, "DOCKER_HOST": f"unix://{socket}"}

    def run(self, *words: str, builder: bool = False, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        environment = {**self._environment, "DOCKER_BUILDKIT": "1" if builder else "0", "BUILDKIT_PROGRESS": "plain"}
        return subprocess.run(
            [self._docker, *words], env=environment, capture_output=True, text=True, errors="replace", timeout=timeout
        )

    def build(self, case: Case, context: Path, dockerfile: Path, *, buildkit: bool) -> Outcome:
        args = [f"--build-arg={name}={value}" for name, value in case.build_args.items()]
        name = f"conformance-{os.getpid()}:latest"
        built = self.run(
            "build", "--no-cache", "-t", name, "-f", str(dockerfile), *args, str(context), builder=buildkit
        )  # fmt: skip
        if built.returncode:
            return Outcome(None, _error(built.stderr))
        archive = self._scratch / "image.tar"
        saved = self.run("save", "-o", str(archive), name)
        if saved.returncode:
            return Outcome(None, f"docker save: {saved.stderr.strip()}")
        try:
            return Outcome(image_trees.read(archive), "")
        finally:
            archive.unlink()
            self.run("rmi", "-f", name)


def _error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "Error response", "error"))]
    return (errors or lines or [""])[-1]


def differences(case: Case, ours: image_trees.Image, theirs: image_trees.Image) -> Iterator[str]:
    """One line for each thing in which the images are not the same."""
    for what in ("architecture", "os", "variant"):
        if (ours.config.get(what) or "") != (theirs.config.get(what) or ""):
            yield f"{what}: {ours.config.get(what)!r}, theirs {theirs.config.get(what)!r}"
    a, b = ours.config.get("config") or {}, theirs.config.get("config") or {}
    for what in _CONFIG:
        if (a.get(what) or None) != (b.get(what) or None):
            yield f"config {what}: {a.get(what)!r}, theirs {b.get(what)!r}"
    for path in sorted({*ours.files, *theirs.files}):
        names = path.split("/") if path else []
        if path not in theirs.files or path not in ours.files:
            if not buildah_cases.skips(case, names, "type"):
                yield f"/{path}: only {'ours' if path in ours.files else 'theirs'}"
            continue
        yield from _differing(case, names, ours.files[path], theirs.files[path])


def _differing(case: Case, names: list[str], ours: image_trees.Node, theirs: image_trees.Node) -> Iterator[str]:
    path = "/" + "/".join(names)
    for what in sorted({*ours.attributes, *theirs.attributes}):
        a, b = ours.attributes.get(what), theirs.attributes.get(what)
        if a != b and not buildah_cases.skips(case, names, what):
            yield f"{path} {what}: {_shown(what, a)}, theirs {_shown(what, b)}"
    if ours.names != theirs.names:
        yield f"{path}: links {sorted(ours.names)}, theirs {sorted(theirs.names)}"


def _shown(what: str, value: Any) -> str:
    return f"{value:o}" if what == "mode" and value is not None else str(value)


def history(image: image_trees.Image) -> list[tuple[str, bool]]:
    """What ``docker history`` tells, without times; buildah's tests do not compare it.

    Nor does it tell that BuildKit makes a layer also of nothing, which ours does not.
    """
    return [
        (_CONTENT.sub(r"\1:...", _created_by(one)), one.get("comment") == "buildkit.dockerfile.v0")
        for one in image.config.get("history") or ()
    ]


def _created_by(entry: Mapping[str, str]) -> str:
    text = entry.get("created_by", "")
    ports = _PORTS.match(text)
    return f"EXPOSE [{ports[1].replace(':{}', '')}]" if ports else text


class Comparison:
    def __init__(self, checkout: Path, ours: Engine, theirs: Engine, scratch: Path, *, with_history: bool) -> None:
        self._checkout, self._ours, self._theirs, self._scratch = checkout, ours, theirs, scratch
        self._with_history = with_history
        self.verdicts: dict[str, int] = {}

    def compare(self, case: Case, *, buildkit: bool, verbose: bool) -> None:
        known = KNOWN.get(case.name)
        label = f"{case.name} [{'buildkit' if buildkit else 'classic'}]"
        try:
            verdict, notes = self._verdict(case, buildkit=buildkit)
        except NotUnderstood as error:
            verdict, notes = "not comparable", [f"its context is made by code that is not understood: {error}"]
        except subprocess.TimeoutExpired as error:
            verdict, notes = "different", [f"no end within {error.timeout} s: {' '.join(error.cmd[:3])}"]
        if verdict == "different" and known:
            verdict, notes = "different, as is known", [*notes, known]
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        limit = None if verbose else 6
        print(f"{label:<76} {verdict}{'' if len(notes) < 2 else f' ({len(notes)})'}")
        for note in notes[:limit]:
            print(f"    {note}")
        sys.stdout.flush()

    def _verdict(self, case: Case, *, buildkit: bool) -> tuple[str, list[str]]:
        outcomes = []
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            # Not "context": clients tell engines which contexts may be alike by their folders' names.
            context = Path(folder) / Path(folder).name
            dockerfile = buildah_cases.lay_out(self._checkout, case, context)
            text = dockerfile.read_text()
            dockerfile.write_text(_SYNTAX.sub("", _FROM.sub(lambda line: _DIGEST.sub("", line.group()), text)))
            os.utime(dockerfile, (buildah_cases.TEST_DATE,) * 2)
            for engine in (self._ours, self._theirs):
                outcomes.append(engine.build(case, context, dockerfile, buildkit=buildkit))
        ours, theirs = outcomes
        if ours.image is None and theirs.image is None:
            words = [] if ours.said == theirs.said else [f"ours says:   {ours.said}", f"theirs says: {theirs.said}"]
            return "same (both fail)" if not words else "same (both fail), other words", words
        if theirs.image is None:
            lacking = [why for word, why in _NEEDS.items() if word in text]
            verdict = "not comparable" if lacking or "# syntax" in text else "different"
            return verdict, [f"theirs fails: {theirs.said}", *(f"it may lack {why}" for why in lacking)]
        if ours.image is None:
            return "different", [f"ours fails: {ours.said}"]
        found = [*differences(case, ours.image, theirs.image)]
        if found:
            return "different", found
        if self._with_history and history(ours.image) != history(theirs.image):
            pairs = _unequal(history(ours.image), history(theirs.image))
            return "same, other history", [f"{a}, theirs {b}" for a, b in pairs]
        return "same", []


def _unequal(a: list[tuple[str, bool]], b: list[tuple[str, bool]]) -> list[tuple[object, object]]:
    length = max(len(a), len(b))
    full: list[list[object]] = [[*one, *[None] * (length - len(one))] for one in (a, b)]
    return [(x, y) for x, y in zip(*full, strict=True) if x != y]


def _lay_base(ours: Engine, theirs: Engine, base: str, scratch: Path) -> None:
    """The same image, under all names, on both: theirs imports it, ours takes it over."""
    changes: Mapping[str, str] = {
        "ENV": "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "CMD": '["sh"]',
    }
    words = [f"--change={name} {value}" for name, value in changes.items()]
    archive = str(scratch / "base.tar")
    for engine, command in (
        (theirs, ("import", *words, base, "conformance-base:latest")),
        (theirs, ("save", "-o", archive, "conformance-base:latest")),
        (ours, ("load", "-i", archive)),
    ):
        done = engine.run(*command)
        if done.returncode:
            raise SystemExit(f"docker {command[0]}: {done.stderr.strip()}")
    for engine in (ours, theirs):
        for name in _IMAGES:
            engine.run("tag", "conformance-base:latest", name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--base", required=True, help="the archive of a root file system with busybox")
    parser.add_argument("--docker", default="docker")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--builder", choices=["classic", "buildkit"], help="one of the builders only")
    parser.add_argument("--history", action="store_true", help="compare also what docker history tells")
    parser.add_argument("-v", "--verbose", action="store_true", help="all differences of a case")
    given = parser.parse_args()
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        scratch = Path(folder)
        ours, theirs = (Engine(given.docker, socket, scratch) for socket in (given.ours, given.theirs))
        _lay_base(ours, theirs, given.base, scratch)
        comparison = Comparison(given.checkout, ours, theirs, scratch, with_history=given.history)
        for case in buildah_cases.read(given.checkout):
            if given.only not in case.name:
                continue
            if case.without_docker:
                print(f"{case.name:<76} not comparable\n    buildah does not compare it with Docker")
                comparison.verdicts["not comparable"] = comparison.verdicts.get("not comparable", 0) + 1
                continue
            for buildkit in (False, True):
                if given.builder in (None, "buildkit" if buildkit else "classic") and (buildkit or not case.buildkit):
                    comparison.compare(case, buildkit=buildkit, verbose=given.verbose)
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in sorted(comparison.verdicts.items())))
    return 1 if comparison.verdicts.get("different") else 0


if __name__ == "__main__":
    sys.exit(main())
