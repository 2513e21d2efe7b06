"""`cove diagnose --bundle`: one archive for a report: findings, versions, settings, logs. Secrets are taken out of everything in it;
keys, a suspended machine's memory and its disk are never read for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cove.agent import unattended
from cove.agent.client import ask
from cove.errors import CoveError
from cove.machine import crashes, docker_context, effective, engine, lifecycle, policy
from cove.machine.paths import MachinePaths
from cove.support import machine, redact
from cove.support.computer import OTHER_VARIABLES
from cove.support.findings import Finding
from cove.support.redact import Redactor

LOG_BYTES = 1 << 20
"""Of the end of each log."""
ENGINE_LOG = "tail -c 1000000 /var/lib/cove/log/engine.log"
ENGINE_LOG_S = 15.0
ENDINGS = (".tar.gz", ".tgz", ".zip")
README = """\
This was made by `cove diagnose --bundle` for a report of trouble with Cove. Look through it before you give it away.

Passwords, tokens, keys, the names and passwords in addresses and the values of variables have been taken out ("[removed]"), and your
home folder is "~". Not here: the machine's keys and disk, containers, images, and what is in them. Logs of the machine's console may
have what programs in it have written there.
"""


def default_name() -> str:
    return f"cove-diagnose-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"


def write(
    file: Path, name: str, findings: Sequence[Finding], guest: Callable[[str, float], str],
    environment: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Write the bundle whole, for its owner alone, and return the names of what is in it. Ends in .zip: a zip, else a tar.gz.

    `guest` runs a command in the machine and returns its output. Raises `CoveError`.
    """
    from cove.machine.files import write_whole

    environment = os.environ if environment is None else environment
    clean = cleaner(environment)
    folder = file.name.removesuffix(".zip").removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    members = {}
    for path, make in _members(name, findings, guest, environment, clean):
        try:
            text = make()
        except Exception as error:
            # As with checks: what is broken is what the report is about, and the rest is of use all the same.
            text = clean(f"it could not be had: {type(error).__name__}: {error}\n")
        if text:
            members[f"{folder}/{path}"] = text.encode()
    data = io.BytesIO()
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in members.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for path, content in members.items():
                info = tarfile.TarInfo(path)
                info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
                tar.addfile(info, io.BytesIO(content))
    try:
        write_whole(file, data.getvalue())
    except OSError as error:
        raise CoveError(
            f"{file} cannot be written: {error.strerror}", "give another place: cove diagnose --bundle FILE"
        ) from error
    return sorted(members)


def cleaner(environment: Mapping[str, str] | None = None) -> Redactor:
    """What takes secrets out of a text that leaves this computer."""
    return Redactor(_secrets(os.environ if environment is None else environment), Path.home())


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    yield from redact.of_environment(environment)
    yield from redact.of_docker(_known(docker_context.folder() / "config.json"))
    for name in _names():
        paths = MachinePaths(name)
        yield from (_known(path) for path in (paths.ssh_key, paths.host_key))
        yield from redact.of_settings(_known(paths.settings))
    yield from redact.of_settings(_known(policy.place()))


def _known(path: Path) -> str:
    """A file with secrets to be taken out; "" for one that cannot be read, whose secrets nobody else has been told."""
    with contextlib.suppress(OSError):
        return _text(path)
    return ""


def _names() -> list[str]:
    with contextlib.suppress(OSError):
        return lifecycle.names()
    return []


def _members(
    name: str, findings: Sequence[Finding], guest: Callable[[str, float], str], environment: Mapping[str, str], clean: Redactor
) -> Iterator[tuple[str, Callable[[], str]]]:  # fmt: skip
    """Names of files, and what makes the text of each, which is left out when that is empty."""
    paths = MachinePaths(name)
    yield "README.txt", lambda: README
    shown = [clean.document(each.shown()) for each in findings]
    yield "findings.json", lambda: _json({"machine": name, "findings": shown})
    yield "findings.txt", lambda: "".join(f"{each['state']:<9}{each['check']:<16}{each['text']}\n" for each in shown)
    yield "environment.json", lambda: _json(_variables(environment, clean))
    yield "docker-config.json", lambda: _json(_docker(clean))
    yield "policy.toml", partial(_cleaned, policy.place(), clean)
    for one in _names():
        yield f"machines/{one}/machine.toml", partial(_cleaned, MachinePaths(one).settings, clean)
    yield f"machines/{name}/settings.json", lambda: _json(_settings(paths, clean))
    yield f"machines/{name}/status.json", lambda: _json(clean.document(_status(paths)))
    if (crash := crashes.load(paths)) is not None:
        # In one piece: a key has several lines.
        told = crash.shown(paths) | {"words": "\n".join(crash.words)}
        yield f"machines/{name}/crash.json", lambda: _json(clean.document(told))
    yield f"machines/{name}/files.json", lambda: _json(_files(paths, clean))
    for log in (paths.console_log, paths.agent_log, paths.qemu_log, paths.folders_log):
        for part in (log.with_name(log.name + ".1"), log):
            yield f"machines/{name}/{part.name}", partial(_cleaned, part, clean, LOG_BYTES)
    if _runs(paths):
        for path in ("/version", "/info", "/system/df?type=image"):
            place = f"machines/{name}/engine{path.partition('?')[0].replace('/', '-')}.json"
            yield place, partial(_answer, paths, path, clean)
        yield f"machines/{name}/engine.log", lambda: clean(guest(ENGINE_LOG, ENGINE_LOG_S))


def _runs(paths: MachinePaths) -> bool:
    with contextlib.suppress(OSError):
        return machine.runs(paths)
    return False


def _answer(paths: MachinePaths, path: str, clean: Redactor) -> str:
    return _json(clean.document(engine.get(paths.docker_socket, path, time.monotonic() + machine.ENGINE_S)))


def _cleaned(path: Path, clean: Redactor, most: int = 256 << 10) -> str:
    return clean(_text(path, most))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _text(path: Path, most: int = 256 << 10) -> str:
    """The end of a file; "" when there is none. Raises `OSError`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read(most)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if size > most:  # the first line is not whole: what stood before it on that line may be what tells a secret
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace")


def _variables(environment: Mapping[str, str], clean: Redactor) -> Any:
    """Names alone, but of those that Cove reads the values too."""
    from cove.machine.settings import SCHEMA

    known = {*OTHER_VARIABLES, "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"}
    known |= {effective.variable(name) for name in SCHEMA}
    return clean.document(
        {name: value if name in known else redact.GONE for name, value in sorted(environment.items())}
    )


def _docker(clean: Redactor) -> Any:
    try:
        value = json.loads(_text(docker_context.folder() / "config.json"))
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    auths, headers = value.get("auths"), value.get("HttpHeaders")
    if isinstance(auths, dict):
        value["auths"] = dict.fromkeys(auths, redact.GONE)
    if isinstance(headers, dict):
        value["HttpHeaders"] = dict.fromkeys(headers, redact.GONE)
    return {key: each if key in ("auths", "HttpHeaders") else clean.document(each) for key, each in value.items()}


def _settings(paths: MachinePaths, clean: Redactor) -> Any:
    from cove.machine.settings import SCHEMA

    try:
        values = effective.values(paths.settings)
    except CoveError as error:
        return {"error": clean(error.message)}
    return {
        name: {"toml": clean(SCHEMA[name].public(each.value)), "origin": each.origin} for name, each in values.items()
    }


def _status(paths: MachinePaths) -> Any:
    try:
        return ask(paths, "status", 5)
    except (CoveError, OSError):
        with contextlib.suppress(OSError):
            return unattended.status(paths)
    return None


def _files(paths: MachinePaths, clean: Redactor) -> list[dict[str, Any]]:
    """What lies there, by name, size and mode: of keys too, but not what is in them."""
    found: list[dict[str, Any]] = []
    for folder in (paths.folder, paths.run_dir):
        try:
            inside = sorted(folder.iterdir())
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append({"path": clean(str(folder)), "error": error.strerror})
            continue
        for path in inside:
            with contextlib.suppress(OSError):
                info = path.lstat()
                found.append(
                    {
                        "path": clean(str(path)),
                        "bytes": info.st_size,
                        "mode": f"{info.st_mode:o}",
                        "changed": info.st_mtime,
                    }
                )
    return found
