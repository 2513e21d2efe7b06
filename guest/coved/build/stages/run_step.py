"""RUN: what its command is given, and what makes it the same command as one that ran before."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from coved.build.cache.steps import key
from coved.build.errors import BuildError
from coved.build.orders import (
    HOSTNAME,
    AnyMount,
    BindMount,
    CacheMount,
    Files,
    RunOrder,
    SecretMount,
    SocketMount,
    TmpfsMount,
)
from coved.build.stages import classic, config, history
from coved.dockerfile import instructions as i
from coved.images import processors

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from coved.build.cache.snapshots import Draft
    from coved.build.request import Request
    from coved.build.stages.stage import Stage
    from coved.build.stages.state import State

_HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"
_SCRIPTS = "/dev/pipes/"
"""Where BuildKit, too, puts a heredoc that begins with #!."""


async def run(stage: Stage, now: State, instruction: i.Run, title: str) -> State:
    """The state after the command. Raises BuildError."""
    job = stage.job
    _check(stage, instruction)
    args, scripts = _command(instruction, now)
    env = {**stage.proxies, **now.args, **config.environment(now.config)}
    env.setdefault("PATH", config.PATH)
    volumes = [*now.config.get("Volumes", {})] if job.request.in_order else []
    contents = [await _content(stage, mount) for mount in instruction.mounts]
    described = [_described(mount, content) for mount, content in zip(instruction.mounts, contents, strict=True)]
    order = RunOrder(
        lower=now.refs,
        args=args,
        env=[f"{name}={value}" for name, value in env.items()],
        cwd=now.config.get("WorkingDir") or "/",
        user=now.config.get("User") or "",
        network=instruction.network if instruction.network != "default" else job.request.network,
        insecure=instruction.security == "insecure",
        add_hosts=job.request.add_hosts,
        limits=job.request.limits,
        hostname=job.request.build_args.get(_HOSTNAME) or HOSTNAME,
    )
    # Proxies that nobody has declared are the client's surroundings, and no part of what the step is.
    undeclared = {*stage.proxies} - {*now.args} - {*config.environment(now.config)}
    own_env = sorted(item for item in order.env if item.partition("=")[0] not in undeclared)
    parts = [
        args, own_env, order.cwd, order.user, order.network, order.insecure, [*order.add_hosts],
        [script.data.decode("latin-1") for script in scripts], described, *([volumes] if volumes else []),
        *([{"hostname": order.hostname}] if order.hostname != HOSTNAME else []), *_limits(job.request),
    ]  # fmt: skip
    what = key("run", now.key, *parts)
    told = key("run", now.told, *parts) if now.told else ""
    with stage.doing(title) as doing:
        for device in instruction.devices:
            doing.log(2, f'Optional device "{device.name}" is not registered\n'.encode())

        async def work(draft: Draft) -> None:
            import contextlib

            if warning := classic.mismatch(now):
                job.progress.note(f" ---> [Warning] {warning}")
            job.progress.note(f" ---> Running in {what[:12]}")
            async with contextlib.AsyncExitStack() as stack:
                places = await classic.volumes(job, now, draft) if volumes else []
                mounts, env = await _mounts(stage, now, instruction.mounts, contents, stack)
                container = what if job.request.in_order else ""
                mounted = [*places, *scripts, *mounts]
                whole = replace(order, mounts=mounted, env=[*order.env, *env], container=container)
                try:
                    await job.executor.run(whole, draft, doing.log)
                except BuildError:
                    if not processors.runs(platform := now.platform or job.platform):
                        doing.log(2, f"{processors.cannot_run(platform)}\n".encode())
                    raise
            job.progress.note(f" ---> Removed intermediate container {what[:12]}")

        step = await job.step(what, now.key, instruction.source, doing, work, cache=stage.cache, told=told)
    environment = config.environment(now.config)
    return now.stepped(step, history.of_command(args, now.args, environment, classic=job.request.in_order))


def _check(stage: Stage, instruction: i.Run) -> None:
    wanted = {"network.host"} if instruction.network == "host" else set()
    if instruction.security == "insecure":
        wanted.add("security.insecure")
    for one in sorted(wanted - stage.job.request.entitlements):
        raise BuildError(f"{one} is not allowed", location=instruction.location)
    for device in instruction.devices:
        if device.required:  # of devices there are none, as with BuildKit where nobody has described one
            raise BuildError(f'required device "{device.name}" is not registered', location=instruction.location)


def _command(instruction: i.Run, now: State) -> tuple[list[str], list[SecretMount]]:
    """The words to run, and scripts that they need as files."""
    command, documents = instruction.command, instruction.heredocs
    if not documents:
        return config.words(command, now.config), []
    text = command.words[0] if command.words else ""
    if not text.strip() or (text.strip().startswith("<<") and len(text.split()) == 1):
        (document,) = documents
        if document.content.startswith("#!"):
            path = f"{_SCRIPTS}{document.name}"
            return [path], [SecretMount(path, document.content.encode(), 0o755)]
        return [*config.shell(now.config), document.content], []
    parts = [text, *(f"{document.content}{document.name}" for document in documents)]
    return [*config.shell(now.config), "\n".join(parts)], []


async def _files(stage: Stage, name: str) -> Files:
    return await stage.job.files(name, stage.planned) if name else await stage.job.inputs.context()


def _limits(request: Request) -> list[object]:
    """What of the limits belongs to what a step is: as with BuildKit, and nothing for the builder of before it."""
    limits = request.limits
    if request.in_order or not (limits.ulimits or limits.shm_size):
        return []
    return [{"ulimits": [{**one} for one in limits.ulimits], "shm": limits.shm_size}]


async def _content(stage: Stage, mount: i.Mount) -> object:
    """The same for the same files; None when it begins with none."""
    if mount.kind != "bind" and not (mount.kind == "cache" and mount.from_):
        return None
    files = await _files(stage, mount.from_)
    if files.directory is None and all(ref.startswith("sha256:") for ref in files.refs):
        return [*files.refs]  # of an image: they say it, and nothing need be read
    return await stage.job.copier.digest(files, [mount.source or "/"])


def _described(mount: i.Mount, content: object) -> list[object]:
    """What of a mount belongs to what a step is."""
    fields: dict[str, object] = {name: value for name, value in asdict(mount).items() if value}
    if content is not None:
        fields["content"] = content
    return [fields]


async def _mounts(
    stage: Stage, now: State, mounts: Sequence[i.Mount], contents: Sequence[object], stack: AsyncExitStack
) -> tuple[list[AnyMount], list[str]]:
    """The mounts as they are carried out, and variables that come from secrets."""
    ordered: list[AnyMount] = []
    env: list[str] = []
    client = stage.job.client
    for number, (mount, content) in enumerate(zip(mounts, contents, strict=True)):
        target = posixpath.join(now.config.get("WorkingDir") or "/", mount.target) if mount.target else ""
        uid, gid = mount.uid or 0, mount.gid or 0
        if mount.kind == "bind":
            files = await _files(stage, mount.from_)
            ordered.append(BindMount(files, mount.source or "/", target, mount.read_only is not False))
        elif mount.kind == "cache":
            seed = await _files(stage, mount.from_) if mount.from_ else None
            ordered.append(
                CacheMount(
                    mount.id or target, target, mount.sharing, seed, mount.source or "/", bool(mount.read_only),
                    0o755 if mount.mode is None else mount.mode, uid, gid, key(content),
                )
            )  # fmt: skip
        elif mount.kind == "tmpfs":
            ordered.append(TmpfsMount(target, mount.size))
        elif mount.kind == "secret":
            id = mount.source or mount.id or posixpath.basename(mount.target)
            data = await client.secret(id)
            if data is None:
                if mount.required:
                    raise BuildError(f"secret {id}: not found")
                continue
            if mount.env is not None:
                env.append(f"{mount.env or id}={data.decode(errors='replace')}")
            if mount.env is None or mount.target:
                path = target or f"/run/secrets/{posixpath.basename(id)}"
                ordered.append(SecretMount(path, data, 0o400 if mount.mode is None else mount.mode, uid, gid))
        else:
            socket = await stack.enter_async_context(client.ssh_agent(mount.id or "default"))
            if socket is None:
                if mount.required:
                    raise BuildError(f"no SSH key {mount.id or 'default'!r} forwarded from the client")
                continue
            path = target or f"/run/buildkit/ssh_agent.{number}"
            ordered.append(SocketMount(path, socket, 0o600 if mount.mode is None else mount.mode, uid, gid))
            env.append(f"SSH_AUTH_SOCK={path}")
    return ordered, env
