"""Where the files of a build come from: a folder, stdin, or a place that the engine fetches them from itself."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from cove.build.tree import Tree

DOCKERFILE = "Dockerfile"
REMOTE = ("http://", "https://", "git://", "ssh://", "github.com/")
_SCP = re.compile(r"[\w.-]+@[\w.-]+:.+")
_COMPRESSED = (b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00")
_BLOCK = 512


@dataclass
class Inputs:
    """What a build is made of. `attributes` are what the Dockerfile's frontend is told of it."""

    attributes: dict[str, str] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)
    archive: BinaryIO | None = None
    """A context that comes on stdin."""
    shown: str = ""
    """What the user calls the Dockerfile."""
    folder: str = ""
    """The name of the context, when it is a folder that may be sent again."""

    @property
    def shared_key(self) -> str:
        """The same for later builds with the same folders, "" for none: by it the engine finds what it has of them."""
        if not self.folder:
            return ""
        # The Dockerfile's, which may be a temporary one, is sent each time.
        trees = sorted((name, os.fsencode(tree.root)) for name, tree in self.trees.items() if name != "dockerfile")
        return f"{self.folder}:{hashlib.sha256(repr(trees).encode()).hexdigest()[:24]}"


class Stdin:
    """Standard input, of which the beginning can be looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._seen = b""

    def peek(self, size: int) -> bytes:
        while len(self._seen) < size and (data := self._stream.read(size - len(self._seen))):
            self._seen += data
        return self._seen

    def read(self, size: int = -1) -> bytes:
        if not self._seen:
            return self._stream.read(size)
        seen, self._seen = self._seen, b""
        if size >= 0:
            seen, self._seen = seen[:size], seen[size:]
            return seen
        return seen + self._stream.read()


def gather(
    context: str, dockerfile: str, named: Mapping[str, str], archive_id: str, stdin: BinaryIO, cleanup: ExitStack
) -> Inputs:
    """The inputs of `build -f dockerfile CONTEXT` with `--build-context` for each of `named`. What is made for it goes
    with `cleanup`. Raises `ValueError` and `OSError`, in the words of docker's client.
    """
    if not context:
        raise ValueError('please specify build context (e.g. "." for the current directory)')
    inputs = Inputs(shown=dockerfile)
    folder, name, text = "", dockerfile, None
    source = Stdin(stdin)
    if context == "-":
        if dockerfile == "-":
            raise ValueError("invalid argument: can't use stdin for both build context and dockerfile")
        if is_archive(source.peek(2 * _BLOCK)):
            inputs.archive = cast(BinaryIO, source)
            inputs.attributes["context"] = f"http://buildkit-session/{archive_id}"
        elif dockerfile:
            raise ValueError("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
        else:
            text = source.read()
            inputs.trees["context"] = Tree(_temporary(cleanup))
    elif Path(context).is_dir():
        inputs.trees["context"] = Tree(Path(context))
        inputs.folder = Path(context).absolute().name
        if dockerfile != "-":
            folder, name = (str(Path(dockerfile).parent), Path(dockerfile).name) if dockerfile else (context, "")
        if not dockerfile:
            inputs.shown = os.path.join(context, DOCKERFILE)  # noqa: PTH118  # "." stays what it is
    elif is_remote(context):
        inputs.attributes["context"] = context
        if dockerfile != "-" and Path(dockerfile).is_absolute():
            folder, name = str(Path(dockerfile).parent), Path(dockerfile).name
            inputs.attributes["dockerfilekey"] = "dockerfile"
    else:
        raise ValueError(f'unable to prepare context: path "{context}" not found')
    if dockerfile == "-":
        text = source.read()
        inputs.shown = "stdin"
    if text is not None:
        folder, name = str(_temporary(cleanup)), DOCKERFILE
        (Path(folder) / name).write_bytes(text)
        inputs.attributes["dockerfilekey"] = "dockerfile"
    if folder:
        inputs.trees["dockerfile"] = _tree(folder)
        name = _as_written(Path(folder), name or DOCKERFILE)
    inputs.attributes["filename"] = name or DOCKERFILE
    for key, place in named.items():
        _name(inputs, key, place)
    return inputs


def _name(inputs: Inputs, name: str, place: str) -> None:
    """A named context."""
    inputs.attributes["frontend.caps"] = "moby.buildkit.frontend.contexts+forward"
    if is_remote(place) or place.startswith(("docker-image://", "target:")):
        inputs.attributes[f"context:{name}"] = place
        return
    if place.startswith("oci-layout://"):
        raise ValueError(f"failed to get build context {name}: this version of Cove sends no OCI layouts")
    local = f"_{name}" if name in ("context", "dockerfile") else name
    try:
        inputs.trees[local] = Tree(Path(place))
    except NotADirectoryError:
        raise ValueError(f"failed to get build context path {place}: not a directory") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"failed to get build context {name}: stat {place}: {reason}") from None
    inputs.attributes[f"context:{name}"] = f"local:{local}"


def _tree(folder: str) -> Tree:
    try:
        return Tree(Path(folder))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"resolve : lstat {folder}: {reason}") from None


def _as_written(folder: Path, name: str) -> str:
    """`dockerfile`, where that is what there is and nothing else was asked for."""
    if name != DOCKERFILE or (folder / name).exists():
        return name
    lower = name.lower()
    return lower if (folder / lower).exists() else name


def _temporary(cleanup: ExitStack) -> Path:
    return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cove-build-")))


def is_remote(place: str) -> bool:
    """Whether it is the engine that fetches it."""
    return place.startswith(REMOTE) or _SCP.fullmatch(place) is not None


def is_archive(head: bytes) -> bool:
    """Whether what begins so is a tar archive, compressed or not."""
    if head.startswith(_COMPRESSED):
        return True
    if len(head) < _BLOCK:
        return False
    import tarfile

    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
