"""Makes a base image: packages are resolved, downloaded and unpacked here, and configured in a container of the engine."""

from __future__ import annotations

import re
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

from cove.debian import filters, index, layer, resolver, second_stage, settings
from cove.debian.index import Offer
from cove.debian.releases import AMD64, BaseImage, Port
from cove.debian.unpack import Tree, in_order
from cove.errors import CoveError
from cove.image import package_cache
from cove.image.download import Downloader
from cove.image.mirror import Mirrors
from cove.machine import space
from cove.machine.paths import cache_dir
from cove.progress import Event, Report

LAST_LINES = 15
"""Lines of a failed configuration that are shown."""


class Running(Protocol):
    """A container that runs: its lines as they come, then its exit status and its files."""

    def lines(self) -> Iterator[str]: ...

    def wait(self) -> int: ...

    def export(self) -> Iterable[bytes]: ...


class Engine(Protocol):
    """What is asked of the engine. Blocks leave nothing behind, however they end."""

    def temporary(self, tag: str, archive: Iterable[bytes]) -> AbstractContextManager[None]:
        """Load the archive of an image, which is `tag`, for the time of the block."""

    def running(
        self, name: str, image: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> AbstractContextManager[Running]:
        """Run a container without a network for the time of the block."""

    def load(self, tag: str, archive: Iterable[bytes]) -> str:
        """Load the archive of an image, which is `tag`, to stay; return its id."""


def bootstrap(wanted: BaseImage, mirrors: Mirrors, engine: Engine, report: Report) -> str:
    """Have the image in the engine and return its id.

    Raises `CoveError` when a download fails or does not verify, the packages do not fit together, their configuration fails, or
    this computer's disk is full; then the engine is as it was before.
    """
    started = time.monotonic()
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    # A TLS mirror is of no use to an APT that knows no certificate authorities.
    extra = ("ca-certificates",) if mirrors.debian.startswith("https:") else ()
    offers = _resolve(wanted, mirrors, cache, extra, report)
    packages = _download(offers, mirrors, cache, report)
    with (
        space.room(cache, wanted.tag),
        tempfile.TemporaryFile(dir=cache) as first,
        tempfile.TemporaryFile(dir=cache) as last,
    ):
        tree = _unpack(wanted, mirrors, offers, packages, first, report)
        port = wanted.release.port
        configured = _configure(engine, port, first, last, offers, extra, tree.newest, report)
        said = f"cove image bootstrap debian:{wanted.release.number}{'-slim' if wanted.slim else ''}"
        if port != AMD64:
            said += f" --platform {port.platform}"
        comment = f"Debian {wanted.release.number} ({wanted.release.codename}) from its archive, {len(offers)} packages"
        archive = layer.image(configured, wanted.tag, {"Cmd": ["bash"]}, tree.newest, said, comment, port)
        identity = engine.load(wanted.tag, _counted(archive, "image", f"loading {wanted.tag}", configured.size, report))
    package_cache.trim(cache / "packages", package_cache.pinned())
    seconds = time.monotonic() - started
    report(Event("image", f"{wanted.tag}, {configured.content / 1e6:.0f} MB, done in {seconds:.0f} s"))
    return identity


def _resolve(wanted: BaseImage, mirrors: Mirrors, cache: Path, extra: Sequence[str], report: Report) -> list[Offer]:
    port = wanted.release.port
    indexes = cache / ("debian-indexes" if port == AMD64 else f"debian-indexes-{port.name}")
    found = index.fetch(wanted.release.suites, mirrors, indexes, report)
    offers = resolver.resolve(found, (*wanted.release.packages, *extra))
    report(Event("index", f"signatures good, {len(offers)} packages needed"))
    return offers


def _download(offers: Sequence[Offer], mirrors: Mirrors, cache: Path, report: Report) -> dict[str, Path]:
    total, done = sum(offer.size for offer in offers), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(Event("download", f"{len(offers)} Debian packages", min(done, total), total))

    downloader = Downloader(cache / "packages", advance)
    if gone := downloader.fetch_all([offer.wanted(mirrors) for offer in offers]):
        raise CoveError(
            f"the mirror's index names packages that the mirror does not have: {gone[0]}",
            "it is probably being updated: try again in some minutes, or name another with --mirror",
        )
    return {offer.name: downloader.path(offer.wanted(mirrors).sha256) for offer in offers}


def _unpack(
    wanted: BaseImage,
    mirrors: Mirrors,
    offers: Sequence[Offer],
    packages: Mapping[str, Path],
    output: IO[bytes],
    report: Report,
) -> Tree:
    paths = filters.SLIM if wanted.slim else filters.NOTHING
    total, done = sum(offer.size for offer in offers), 0
    fields = {offer.name: offer.fields for offer in offers}
    tree = Tree(output, paths)
    try:
        for name in in_order(packages):
            known: dict[str, str] = {
                field: fields[name][field] for field in ("Priority", "Section") if field in fields[name]
            }
            tree.unpack(packages[name], known)
            done += int(fields[name]["Size"])
            report(Event("unpack", f"{len(packages)} packages", done, total))
        keyring = next(path for path in _KEYRINGS if path in tree)
        tree.finish(settings.files(wanted.release, mirrors, paths, keyring))
    except (ValueError, StopIteration) as error:
        raise CoveError(f"{wanted.tag} cannot be put together: {error}", _OURS) from error
    return tree


_KEYRINGS = ("usr/share/keyrings/debian-archive-keyring.pgp", "usr/share/keyrings/debian-archive-keyring.gpg")
_NO_PROGRAM = "exec format error"
_FOREIGN = (
    "the engine's machine has no emulator for {}, whose own programs configure the packages: `docker buildx inspect` tells which "
    "platforms it runs"
)
_OURS = "Debian's packages are not what this version of Cove expects: another release may do, or a newer Cove"


def _configure(
    engine: Engine,
    port: Port,
    first: IO[bytes],
    last: IO[bytes],
    offers: Sequence[Offer],
    manual: Sequence[str],
    newest: int,
    report: Report,
) -> layer.Layer:
    unpacked = layer.as_it_is(first)
    name = f"cove-bootstrap-{uuid4().hex[:12]}"
    tag = f"{name}:unpacked"
    archive = layer.image(unpacked, tag, {}, newest, "cove image bootstrap, first stage", port=port)
    sizes = {offer.name: offer.size for offer in offers}
    total = sum(sizes.values())
    command = ["/bin/sh", "-c", second_stage.SCRIPT, "sh", *manual]
    with engine.temporary(tag, _counted(archive, "load", "into a container", unpacked.size, report)):
        with engine.running(name, tag, command, second_stage.environment(newest)) as container:
            lines, text = list[str](), f"configuring {len(offers)} packages"
            report(Event("setup", text, 0, total))
            for line in container.lines():
                lines.append(line)
                if match := re.match(r"Setting up ([^ :]+)", line):
                    sizes.pop(match[1], None)
                    left = sum(sizes.values())
                    report(Event("setup", text, total - left, total))
            if status := container.wait():
                said = "\n".join(lines[-LAST_LINES:]) or "(it said nothing)"
                why = _FOREIGN.format(port.platform) if lines and lines[-1].endswith(_NO_PROGRAM) else _OURS
                raise CoveError(f"the packages could not be configured (exit status {status})", f"{said}\n{why}")
            with tempfile.TemporaryFile(dir=cache_dir()) as exported:
                for chunk in container.export():
                    exported.write(chunk)
                try:
                    return layer.normalise(exported, last, newest)
                except (tarfile.TarError, KeyError) as error:
                    raise CoveError(f"the engine's export of the container cannot be read: {error}") from error


def _counted(chunks: Iterable[bytes], phase: str, text: str, total: int, report: Report) -> Iterator[bytes]:
    done = 0
    report(Event(phase, text, 0, total))
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        report(Event(phase, text, min(done, total), total))
