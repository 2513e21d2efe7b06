"""What BuildKit's Dockerfile frontend is asked for by its attributes (moby/buildkit, frontend/dockerui)."""

from __future__ import annotations

import csv
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coved.build.request import Limits, Output, Request
from coved.buildkit import linking
from coved.buildkit.answers import QUESTIONS
from coved.buildkit.messages import CacheOptionsEntry, Definition, Exporter, SolveRequest
from coved.errors import InvalidParameter

_UPLOAD = re.compile(r"https?://buildkit-session/(.+)")
_NETWORKS = {"": "default", "sandbox": "default", "none": "none", "host": "host"}
_KINDS = {"moby": "image", "image": "image", "local": "local", "tar": "tar", "oci": "oci", "docker": "docker"}


@dataclass(frozen=True)
class Asked:
    request: Request
    upload: str = ""
    """The client sends its context as an archive by this name."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the client calls the trees "context" and "dockerfile"."""
    sessions: Mapping[str, str] = field(default_factory=dict)
    """Sessions that have the client's trees of these names, where it is not the build's own (several builds share a tree)."""


def read(solve: SolveRequest, options: Mapping[str, str], inputs: Mapping[str, Definition]) -> Asked:
    """The build that ``solve`` asks for; ``options`` and ``inputs`` are the frontend's, which the client may give with a later call.

    Raises InvalidParameter.
    """
    kind = options.get("requestid", "")
    if kind and kind not in QUESTIONS:
        raise InvalidParameter(f"unsupported request {kind}")
    context_name = options.get("contextkey", "context")
    dockerfile_name = options.get("dockerfilekey", "dockerfile")
    context, upload = options.get(context_name, ""), ""
    if match := _UPLOAD.fullmatch(context):
        context, upload = "", match[1]
    elsewhere = bool(context or upload) and "dockerfilekey" not in options
    request = Request(
        dockerfile=options.get("filename", "Dockerfile"),
        context=context,
        dockerfile_in="context" if elsewhere else "dockerfile",
        contexts=linking.resolve(_with_prefix(options, "context:"), inputs),
        target=options.get("target", ""),
        platforms=_split(options.get("platform", "")),
        build_args=_with_prefix(options, "build-arg:"),
        labels=_with_prefix(options, "label:"),
        no_cache=options.get("no-cache", "-") == "",
        no_cache_stages=_split(options.get("no-cache", "")),
        pull=_pull(options.get("image-resolve-mode", "")),
        network=_network(options.get("force-network-mode", "")),
        add_hosts=tuple(_host(each) for each in _fields(options.get("add-hosts", ""))),
        limits=_limits(options),
        entitlements=frozenset(solve.entitlements),
        cache_from=tuple(_imports(solve, options)),
        cache_to=tuple(_cache(each) for each in solve.cache.exports) if solve.cache else (),
        outputs=_outputs(solve),
        question=QUESTIONS.get(kind, ""),
    )
    names = {"context": context_name, "dockerfile": dockerfile_name}
    others = {ours: theirs for ours, theirs in names.items() if ours != theirs}
    return Asked(request, upload, others, _with_prefix(options, "local-sessionid:"))


def _with_prefix(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _pull(mode: str) -> bool:
    if mode not in ("", "default", "local", "pull"):
        raise InvalidParameter(f"invalid image-resolve-mode: {mode}")
    return mode == "pull"


def _network(mode: str) -> str:
    if mode not in _NETWORKS:
        raise InvalidParameter(f"invalid netmode {mode}")
    return _NETWORKS[mode]


def _fields(text: str) -> list[str]:
    if not text:
        return []
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidParameter(f"failed to parse {text!r}: {error}") from None


def _host(field: str) -> tuple[str, str]:
    name, equals, address = field.lower().partition("=")
    if not equals:
        raise InvalidParameter(f"failed to parse additional hosts: invalid key-value pair {field}")
    wrong = InvalidParameter(f"failed to parse additional hosts: failed to parse IP {address}")
    if "%" in address:  # a zone may be any text, and Go takes none
        raise wrong
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise wrong from None
    return name, address


def _number(options: Mapping[str, str], name: str) -> int:
    text = options.get(name, "")
    if not text:
        return 0
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise InvalidParameter(f"invalid {name} value: {text}")
    return int(text)


def _limits(options: Mapping[str, str]) -> Limits:
    numbers = {
        "Memory": "memory",
        "MemorySwap": "memswap",
        "CpuShares": "cpushares",
        "CpuPeriod": "cpuperiod",
        "CpuQuota": "cpuquota",
    }
    texts = {"CpusetCpus": "cpusetcpus", "CpusetMems": "cpusetmems"}
    host: dict[str, int | str] = {}
    host.update((field, value) for field, name in numbers.items() if (value := _number(options, name)))
    host.update((field, text) for field, name in texts.items() if (text := options.get(name, "")))
    return Limits(
        shm_size=_number(options, "shm-size"),
        ulimits=tuple(_ulimit(each) for each in _fields(options.get("ulimit", ""))),
        cgroup_parent=options.get("cgroup-parent", ""),
        host_config=host,
    )


def _ulimit(field: str) -> dict[str, int | str]:
    """``name=soft[:hard]``."""
    match = re.fullmatch(r"([a-z]+)=(-?[0-9]{1,18})(?::(-?[0-9]{1,18}))?", field)
    if match is None:
        raise InvalidParameter(f"failed to parse ulimit: invalid ulimit argument: {field}")
    soft = int(match[2])
    hard = soft if match[3] is None else int(match[3])
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidParameter(
            f"failed to parse ulimit: ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return {"Name": match[1], "Soft": soft, "Hard": hard}


def _imports(solve: SolveRequest, options: Mapping[str, str]) -> Iterable[dict[str, str]]:
    text = options.get("cache-imports", "")
    seen = []
    if text:
        try:
            entries = json.loads(text)
            seen = [
                _cache(CacheOptionsEntry(str(entry["Type"]), {str(k): str(v) for k, v in entry["Attrs"].items()}))
                for entry in entries
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InvalidParameter(f'failed to unmarshal cache-imports ("{text[:200]}")') from None
    seen += [{"type": "registry", "ref": ref} for ref in _split(options.get("cache-from", ""))]
    for entry in solve.cache.imports if solve.cache else ():
        if (each := _cache(entry)) not in seen:
            seen.append(each)
    return seen


def _cache(entry: CacheOptionsEntry) -> dict[str, str]:
    return {**entry.attrs, "type": entry.type}


def exporters(solve: SolveRequest) -> Sequence[Exporter]:
    """Where its results go, whichever way it says so."""
    if not solve.exporters and solve.exporter_deprecated:
        return [Exporter(solve.exporter_deprecated, solve.exporter_attrs_deprecated)]
    return solve.exporters


def _outputs(solve: SolveRequest) -> Sequence[Output]:
    return tuple(_output(number, each) for number, each in enumerate(exporters(solve))) or (Output("none"),)


def _output(number: int, exporter: Exporter) -> Output:
    kind = _KINDS.get(exporter.type)
    if kind is None:
        raise InvalidParameter(f'exporter "{exporter.type}" could not be found')
    return Output(kind, _split(exporter.attrs.get("name", "")), number)
