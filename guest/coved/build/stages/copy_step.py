"""COPY, ADD and WORKDIR: which files come in, and from where."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from coved.build.cache.steps import key
from coved.build.errors import BuildError
from coved.build.orders import CopyOrder, Files
from coved.build.remote.sources import is_remote
from coved.build.stages import classic, config, history
from coved.build.stages.state import of_nothing
from coved.dockerfile import instructions as i

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coved.build.cache.snapshots import Draft
    from coved.build.stages.job import Job
    from coved.build.stages.stage import Stage
    from coved.build.stages.state import State


async def start(stage: Stage, files: Files) -> State:
    """A stage that begins with the files of a context. Raises BuildError."""
    nothing = of_nothing()
    order = CopyOrder((), "/", files, ["/"])
    what = key("context", await stage.job.copier.digest(files, order.sources))
    with stage.doing(f"FROM {stage.planned.image}") as doing:

        async def work(draft: Draft) -> None:
            await stage.job.copier.copy(order, draft)

        step = await stage.job.step(what, "", f"FROM {stage.planned.image}", doing, work, cache=stage.cache, same=True)
    return nothing.stepped(step, f"FROM {stage.planned.image} # buildkit")


async def add(stage: Stage, now: State, instruction: i.Copy, title: str) -> State:
    """The state after COPY or ADD. Raises BuildError."""
    job = stage.job
    sources = [one for one in instruction.sources if not _is_remote(instruction, one)]
    remote = [one for one in instruction.sources if _is_remote(instruction, one)]
    files = Files()
    if sources:
        files = await (job.files(instruction.from_, stage.planned) if instruction.from_ else job.inputs.context())
    destination = _destination(now, instruction.destination)
    with stage.doing(title) as doing:
        downloads = [await job.remote.source(one, instruction, doing) for one in remote]
        order = CopyOrder(
            lower=now.refs,
            destination=destination,
            files=files,
            sources=sources,
            contents={one.name: one.content.encode() for one in instruction.documents},
            downloads=[(one.name, one.path) for one in downloads],
            chown=instruction.chown,
            chmod=instruction.chmod,
            link=instruction.link,
            parents=instruction.parents,
            excludes=instruction.excludes,
            unpack=instruction.keyword == "ADD" and instruction.unpack is not False,
            classic=instruction.keyword if job.request.in_order else "",
            unpack_downloads=bool(instruction.unpack),
        )
        content = (
            await job.copier.digest(files, sources, parents=instruction.parents, excludes=instruction.excludes)
            if sources
            else ""
        )
        parts = [
            content, [[one.name, one.key] for one in downloads], order.destination,
            [[name, data.decode()] for name, data in order.contents.items()], order.chown, order.chmod, order.parents,
            order.unpack, order.unpack_downloads, [*order.sources] if order.parents else len(order.sources), [*order.excludes],
            *([order.classic] if order.classic else []),
        ]  # fmt: skip
        beneath = "" if order.link else now.key
        what = key("copy", beneath, *parts)
        told = key("copy", now.told, *parts) if now.told and not order.link else ""

        async def work(draft: Draft) -> None:
            await job.copier.copy(order, draft)

        step = await job.step(what, beneath, instruction.source, doing, work, cache=stage.cache, same=True, told=told)
    if job.request.in_order:
        written = await _classic(job, now, instruction, files, sources, content, [one.key for one in downloads])
    else:
        written = history.of_copy(instruction)
    after = now.stepped(step, written)
    # Linked files are the same on whatever they lie, but what comes on top of both is not.
    return after.lying_on(now) if order.link else after


async def make_directory(stage: Stage, now: State, instruction: i.Workdir, title: str) -> State:
    """The state after WORKDIR: the folder is there."""
    changed = config.apply(now.config, instruction)
    if stage.job.request.in_order:
        changed = classic.configured(changed, instruction)
    path: str = changed["WorkingDir"]
    # BuildKit gives the folders that it makes to whom USER names.
    owner = "" if stage.job.request.in_order else now.config.get("User") or ""
    order = CopyOrder(now.refs, path, chown=owner, make_directory=True)
    what = key("workdir", now.key, path, order.chown)
    told = key("workdir", now.told, path, order.chown) if now.told else ""
    with stage.doing(title) as doing:

        async def work(draft: Draft) -> None:
            await stage.job.copier.copy(order, draft)

        step = await stage.job.step(
            what, now.key, instruction.source, doing, work, cache=stage.cache, same=True, told=told
        )
    written = history.of_directory(path, changed, classic=stage.job.request.in_order)
    return now.stepped(step, written).with_config(changed)


def _is_remote(instruction: i.Copy, source: str) -> bool:
    return instruction.keyword == "ADD" and is_remote(source)


def _destination(now: State, path: str) -> str:
    """Absolute, and with its / at the end, which says that it is a folder."""
    whole = posixpath.join(now.config.get("WorkingDir") or "/", path)
    if not path:
        raise BuildError("the destination of a copy is empty")
    normal = posixpath.normpath("/" + whole.lstrip("/"))
    is_folder = path.endswith(("/", "/.")) or path == "."
    return f"{normal.rstrip('/')}/" if is_folder else normal


async def _classic(
    job: Job,
    now: State,
    instruction: i.Copy,
    files: Files,
    sources: Sequence[str],
    content: str,
    downloads: Sequence[str],
) -> str:
    """How the builder of before BuildKit names a copy: by what comes in."""
    kind = await job.copier.kind(files, sources) if sources else "file" if len(downloads) == 1 else "multi"
    if sources and downloads:
        kind = "multi"
    digest = content.removeprefix("sha256:") if not downloads else key(content, [*downloads])
    return history.of_classic_copy(instruction, now.config, f"{kind}:{digest}")
