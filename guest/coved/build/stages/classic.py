"""In what the builder of before BuildKit is another: configurations, volumes, and its words. For copies: ``CopyOrder.classic``.

Source: github.com/moby/moby, builder/dockerfile, which is what ``POST /build`` has always meant.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import re
from collections.abc import Sequence
from typing import Any

from coved.build.cache.snapshots import Draft
from coved.build.errors import BuildError
from coved.build.orders import AnyMount, BindMount, CopyOrder, Files, TmpfsMount
from coved.build.request import Request
from coved.build.stages.job import Job
from coved.build.stages.state import State
from coved.dockerfile import instructions as i
from coved.dockerfile.instructions import DockerfileError
from coved.images import platforms, processors
from coved.runtime import view
from coved.runtime.errors import RuntimeFailure
from coved.runtime.paths import open_in_root

_MISSING = re.compile(
    r'(?:failed to compute cache key: failed to calculate checksum of ref \S+: )?"/(?P<path>.*)": not found'
)
_NOT_SO = {"WorkingDir", "ArgsEscaped"}
"""What BuildKit sets though no instruction says it."""


def nothing(base: State) -> State:
    """FROM scratch."""
    return base.with_config({name: value for name, value in base.config.items() if name not in _NOT_SO})


def configured(config: dict[str, Any], instruction: i.Instruction) -> dict[str, Any]:
    """The configuration after an instruction."""
    if isinstance(instruction, i.Cmd):
        return {name: value for name, value in config.items() if name != "ArgsEscaped"}
    if isinstance(instruction, i.Workdir):
        return {**config, "WorkingDir": posixpath.normpath("/" + config["WorkingDir"].lstrip("/"))}
    return config


def check(result: State, request: Request) -> None:
    """Raises BuildError for a build that comes to nothing; labels that are asked for are as good as an instruction."""
    if not result.history and not result.refs and not request.labels:
        raise BuildError("No image was generated. Is your Dockerfile empty?")


def mismatch(now: State) -> str:
    """What is said of each container that this builder runs on an image for another machine, asked for or not."""
    platform = now.platform
    if platform is None or platforms.rank(platform, processors.own()) is not None:
        return ""
    return processors.mismatch(platform)


async def volumes(job: Job, now: State, draft: Draft) -> list[AnyMount]:
    """What RUN has in the places of volumes, as a container has: what it changes there is gone afterwards, but the folders are
    there from then on."""
    paths = [posixpath.normpath("/" + path.lstrip("/")) for path in now.config.get("Volumes") or ()]
    if not paths:
        return []
    with job.snapshots.held(now.refs):
        there = await asyncio.to_thread(_folders, job, now, paths)
    for path in paths:
        if path not in there:
            await job.copier.copy(CopyOrder(now.refs, path, make_directory=True), draft)
    files = Files(refs=now.refs)
    return [
        BindMount(files, path, path, read_only=False) if path in there else TmpfsMount(path)
        for path in dict.fromkeys(paths)
        if path != "/"
    ]


def _folders(job: Job, now: State, paths: Sequence[str]) -> set[str]:
    found = set()
    with view.of_image(job.snapshots.lower_dirs(now.refs)) as root:
        for path in paths:
            try:
                os.close(open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY))
            except OSError:
                continue
            found.add(path)
    return found


def unreadable(error: DockerfileError, name: str) -> DockerfileError:
    """The words for a file that is no Dockerfile."""
    message = str(error)
    if message == "the Dockerfile cannot be empty":
        message = f"the Dockerfile ({name}) cannot be empty"
    elif not message.startswith("dockerfile "):
        message = f"failed to parse Dockerfile: {message}"
    return DockerfileError(message, error.location)


def reword(error: BuildError, instruction: i.Instruction) -> None:
    """Gives an error of BuildKit's the words that this builder had for it."""
    message = str(error)
    if isinstance(error.__cause__, RuntimeFailure):
        message, error.exit_code = str(error.__cause__), None
    elif isinstance(instruction, i.Copy) and (match := _MISSING.fullmatch(message)):
        where = "" if instruction.from_ else "file not found in build context or excluded by .dockerignore: "
        message = f"{instruction.keyword} failed: {where}stat {match['path']}: file does not exist"
    error.args = (message,)
