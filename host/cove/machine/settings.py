"""A machine's settings: one TOML file with a schema.

`SCHEMA` is the single source: parsing, error messages, the file that `init` writes and docs/settings.md
(`cove.machine.settings_page`) all come from it.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cove.errors import MachineNotFound, SettingsError
from cove.machine import tomlfile
from cove.machine.architecture import ARCHITECTURES
from cove.machine.files import write_whole
from cove.machine.sizes import format_size, parse_size
from cove.machine.spans import format_span, parse_span
from cove.machine.tomlfile import Mistake

PROXIES = ("system", "manual", "none")
CERTIFICATES = ("system", "none")
AGENTS = ("system", "none")
DRIVERS = ("auto", "qemu", "hyperv")
ACCELERATORS = ("auto", "kvm", "hvf", "whpx", "tcg")
HOME_ACCESS = ("read-write", "read-only", "no")
FOLDER_OWNERS = ("user", "root")
FOLDER_DRIVERS = ("auto", "virtiofs", "9p", "agent")
MAX_CPUS = 256
MIN_MEMORY = 256 << 20
MIN_DISK = 1 << 30
MAX_DISK = 64 << 40
NEVER = "never"
MIN_QUIET_S, MAX_QUIET_S = 1, 30 * 86400
MAX_ID = (1 << 32) - 2
"""Of a user or group (the last number means nobody: chown(2))."""
_NUMBERS = re.compile(r"([0-9]{1,10}):([0-9]{1,10})", re.ASCII)
HEADER = "# Settings of a Cove machine. `cove config` shows and sets them too.\n"


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings; sizes in bytes, lengths of time in seconds (`suspend_after` 0: never)."""

    cpus: int = 2
    memory: int = 2 << 30
    disk: int = 60 << 30
    driver: str = "auto"
    accelerator: str = "auto"
    architecture: str = "auto"
    bind_address: str = "127.0.0.1"
    qemu: str = ""
    suspend_after: int = 300
    suspend_running: bool = False
    share_home: str = "read-write"
    shared_folders: tuple[str, ...] = ()
    folder_driver: str = "auto"
    folder_owner: str = "user"
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    proxy: str = "system"
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    proxy_in_containers: bool = False
    certificates: str = "system"
    extra_certificates: tuple[str, ...] = ()
    certificates_in_containers: bool = False
    ssh_agent: str = "system"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the schema. `parse` turns a TOML value into the setting or raises `ValueError`; `show` writes it as TOML."""

    name: str
    kind: str
    doc: str
    parse: Callable[[Any], Any]
    show: Callable[[Any], str]
    at_once: bool = False
    """Whether it counts at once, and not from the next start on."""
    at_wake: bool = False
    """Whether a suspended machine has it when it wakes."""
    secret: bool = False
    """An address that may have a password."""
    words: tuple[str, ...] = ()
    """What it can be, or be beside other things, when that is words."""
    of_files: bool = False
    """Whether it can be a path, or a list of them."""

    @property
    def counts(self) -> str:
        """From when on a change of it counts."""
        return "at once" if self.at_once else "at the machine's next start"

    @property
    def default(self) -> Any:
        return getattr(Settings(), self.name)

    def public(self, value: Any) -> str:
        """As `show`, without a password."""
        from coved.outside import masked

        return self.show(masked(value) if self.secret else value)


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:  # a TOML boolean is an int to isinstance
            raise ValueError(f"must be a whole number from {low} to {high}, not {_shown(value)}")
        return value

    return parse


def _size(low: int, high: int, multiple: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if not isinstance(value, str):
            raise ValueError(f'must be a size in quotes, such as "2GiB", not {_shown(value)}')
        size = parse_size(value)
        if not low <= size <= high:
            unit = " bytes: a number without a unit counts those" if value.strip().isdigit() else ""
            raise ValueError(f"must be between {format_size(low)} and {format_size(high)}, not {value}{unit}")
        return size - size % multiple

    return parse


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {_shown(value)}")
        return str(value)

    return parse


def _owner(value: Any) -> str:
    if value in FOLDER_OWNERS:
        return str(value)
    found = _NUMBERS.fullmatch(value) if isinstance(value, str) else None
    if found is None or max(map(int, found.groups())) > MAX_ID:
        raise ValueError(f'must be user, root, or two numbers such as "1000:1000", not {_shown(value)}')
    return str(value)


def _address(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(value if isinstance(value, str) else ""))
    except ValueError:
        raise ValueError(f'must be an IPv4 address such as "127.0.0.1", not {_shown(value)}') from None


def _program(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"must be the path of a program, not {_shown(value)}")
    if value and not _is_absolute(value):
        raise ValueError(f"must be an absolute path, or empty to search for it, not {value!r}")
    return value


def _quiet_span(value: Any) -> int:
    if value == NEVER:
        return 0
    seconds = parse_span(value if isinstance(value, str) else _shown(value))
    if not MIN_QUIET_S <= seconds <= MAX_QUIET_S:
        raise ValueError(f"must be between {format_span(MIN_QUIET_S)} and {format_span(MAX_QUIET_S)}, not {value}")
    return seconds


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {_shown(value)}")
    return value


def _texts(one: Callable[[str], None]) -> Callable[[Any], tuple[str, ...]]:
    """A list of texts each of which ``one`` accepts, or raises `ValueError` for."""

    def parse(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"must be a list of texts in quotes, not {_shown(value)}")
        for entry in value:
            one(entry)
        return tuple(value)

    return parse


def _registry(text: str) -> None:
    try:
        if "/" in text:
            ipaddress.ip_network(text, strict=False)
            return
        parts = urlsplit(f"//{text}")
        fine = bool(parts.hostname) and parts.netloc == text and "@" not in text and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(
            f'must name registries such as "registry.local:5000" or networks such as "10.0.0.0/8", not {_shown(text)}'
        )


def _mirror(text: str) -> None:
    try:
        parts = urlsplit(text)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        fine = fine and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        fine = False
    if not fine:
        raise ValueError(f'must be addresses such as "https://mirror.local:5000", not {_shown(text)}')


def _proxy(value: Any) -> str:
    from coved.outside import proxy_problem

    if not isinstance(value, str):
        raise ValueError(f"must be the address of a proxy, not {_shown(value)}")
    if value and (problem := proxy_problem(value)):
        raise ValueError(f'must be like "http://proxy.example.com:3128", not {_shown(value)}: {problem}')
    return value


def _unproxied(text: str) -> None:
    if not text.isascii() or not re.fullmatch(r"[^\s,/@]+(?:/[0-9]{1,3})?", text):
        raise ValueError(
            'must name hosts such as "corp.example" or "10.0.0.5:8080", or networks such as "10.0.0.0/8",'
            f" not {_shown(text)}"
        )


def _file(text: str) -> None:
    if "\0" in text or not _is_absolute(text):
        raise ValueError(f"must name files by absolute paths (~ is allowed), not {text!r}")


def _agent(value: Any) -> str:
    if not isinstance(value, str) or not (value in AGENTS or _is_socket(value)):
        raise ValueError(
            f'must be "system", "none", or the absolute path of a socket (~ is allowed), not {_shown(value)}'
        )
    return value


def _is_socket(text: str) -> bool:
    return "\0" not in text and (text.startswith("\\\\.\\pipe\\") or _is_absolute(text))


def _folder(text: str) -> None:
    path = text.removesuffix(":ro").removesuffix(":rw")
    if "\0" in text or not path or not _is_absolute(path):
        raise ValueError(
            f'must have absolute paths of folders (~ is allowed) such as "/data", or "/data:ro" for a read-only one, not {text!r}'
        )


def _is_absolute(text: str) -> bool:
    """Whether a path, in which ~ is allowed, is absolute. Raises `ValueError` for a ~ that stands for no folder."""
    try:
        return Path(text).expanduser().is_absolute()
    except RuntimeError:
        user = Path(text).parts[0].removeprefix("~")
        why = f"there is no user {user}" if user else "you have no home folder"
        raise ValueError(f"must be below a home folder that is there, not {_shown(text)}: {why}") from None


def _shown(value: Any) -> str:
    """For an error, which people show to others: what stands before an @ may be a password, whatever setting it was meant for."""
    from coved.outside import masked

    text = repr(masked(value)) if isinstance(value, str) else masked(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


SCHEMA: dict[str, Key] = {
    key.name: key
    for key in (
        Key(
            "cpus",
            f"whole number, 1 to {MAX_CPUS}",
            "Virtual processors.",
            _integer(1, MAX_CPUS),
            str,
        ),
        Key(
            "memory",
            f"size such as 4GiB, at least {format_size(MIN_MEMORY)}; kept in whole MiB",
            "The most memory that the machine can have. It takes what it uses and gives back what it frees (not on Windows).",
            _size(MIN_MEMORY, 1 << 44, 1 << 20),
            lambda size: json.dumps(format_size(size)),
        ),
        Key(
            "disk",
            f"size such as 100GiB, at least {format_size(MIN_DISK)}; kept in whole MiB",
            "The most that containers, images and volumes can take on this computer's disk; the file grows as it is used."
            " It can be made larger, never smaller.",
            _size(MIN_DISK, MAX_DISK, 1 << 20),
            lambda size: json.dumps(format_size(size)),
        ),
        Key(
            "driver",
            "one of " + ", ".join(DRIVERS),
            "What runs the machine: qemu (everywhere), hyperv (Windows' own), or auto: on Windows Hyper-V when it is ready for Cove"
            " (docs/hyper-v.md), else QEMU. A machine that has a disk stays with what has made that.",
            _choice(DRIVERS),
            json.dumps,
            words=DRIVERS,
        ),
        Key(
            "accelerator",
            "one of " + ", ".join(ACCELERATORS),
            "What runs the machine's processors: kvm (Linux), hvf (macOS), whpx (Windows), tcg (software emulation, everywhere,"
            " slow), or auto: the best that is proven to run here.",
            _choice(ACCELERATORS),
            json.dumps,
            words=ACCELERATORS,
        ),
        Key(
            "architecture",
            "one of " + ", ".join(ARCHITECTURES),
            "The kind of the machine's processors. auto: this computer's; the other kind is emulated, and slow.",
            _choice(ARCHITECTURES),
            json.dumps,
            words=ARCHITECTURES,
        ),
        Key(
            "bind_address",
            "IPv4 address",
            "Where published ports answer when -p names no address. 127.0.0.1 is this computer alone; 0.0.0.0 lets the network in.",
            _address,
            json.dumps,
        ),
        Key(
            "qemu",
            "path",
            "The QEMU program to use. Empty: searched for on PATH and in the usual places.",
            _program,
            json.dumps,
            of_files=True,
        ),
        Key(
            "suspend_after",
            f'length of time from {format_span(MIN_QUIET_S)} on, such as "5m" or "1h30m", or "{NEVER}"',
            "When nothing has run in the machine and nobody has used it for so long, it is suspended by itself: it takes no memory"
            " and no processor then. The next command or connection to its docker socket wakes it.",
            _quiet_span,
            lambda seconds: json.dumps(format_span(seconds) if seconds else NEVER),
            at_once=True,
            words=(NEVER,),
        ),
        Key(
            "suspend_running",
            "true or false",
            "Whether the machine is suspended by itself also while containers run in it, provided that they publish no ports and"
            " nobody asks anything of them. They stand still until it wakes.",
            _boolean,
            json.dumps,
            at_once=True,
            words=("true", "false"),
        ),
        Key(
            "share_home",
            "one of " + ", ".join(HOME_ACCESS),
            "Your home folder in containers (-v ~/src:/src): read-write, read-only, or no.",
            _choice(HOME_ACCESS),
            json.dumps,
            words=HOME_ACCESS,
            at_wake=True,
        ),
        Key(
            "shared_folders",
            "list of folders' absolute paths, each read-only when it ends with :ro",
            "More folders of this computer that containers may use by -v, --mount and compose files. ~ is allowed.",
            _texts(_folder),
            lambda texts: json.dumps(list(texts)),
            at_wake=True,
            of_files=True,
        ),
        Key(
            "folder_driver",
            "one of " + ", ".join(FOLDER_DRIVERS),
            "What carries shared folders: virtiofs (by virtiofsd, Linux), 9p (QEMU's own, Linux and macOS), agent (Cove's"
            " own 9p, Linux and macOS, which alone makes your computer's changes events in containers), or auto, which is agent.",
            _choice(FOLDER_DRIVERS),
            json.dumps,
            words=FOLDER_DRIVERS,
        ),
        Key(
            "folder_owner",
            "user, root, or UID:GID",
            "Who owns your files in containers, by Cove's own 9p: user (your own numbers, as without a VM; on Windows root), root, or"
            " the numbers of a container's user. What a container's root makes is shown as this user's, and what a container has given"
            " to somebody stays theirs; on your computer all is yours.",
            _owner,
            json.dumps,
            words=FOLDER_OWNERS,
        ),
        Key(
            "insecure_registries",
            "list of hosts, with their ports, or networks",
            "Registries that may speak plain HTTP, or have a certificate that nobody vouches for. Those on localhost may always:"
            " that is the machine's own localhost; this computer is 10.0.2.2 to the machine, except on Hyper-V."
            " Certificates of registries are better kept in ~/.docker/certs.d/HOST/ca.crt.",
            _texts(_registry),
            lambda texts: json.dumps(list(texts)),
        ),
        Key(
            "registry_mirrors",
            "list of addresses",
            "Registries that are asked first for images of docker.io, by addresses that the machine can reach: its localhost is"
            " its own, and this computer is 10.0.2.2, except on Hyper-V.",
            _texts(_mirror),
            lambda texts: json.dumps(list(texts)),
        ),
        Key(
            "proxy",
            "one of " + ", ".join(PROXIES),
            "By which proxies the engine pulls, pushes, logs in, searches, and fetches for builds. system: this computer's, of the"
            " environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) of the command that starts the machine, or else of the settings of"
            " macOS or Windows; http_proxy, https_proxy and no_proxy below, where they are given, count before them. manual:"
            " those below alone. none: no proxy. More: docs/proxies.md.",
            _choice(PROXIES),
            json.dumps,
            at_once=True,
            words=PROXIES,
        ),
        Key(
            "http_proxy",
            "address of a proxy",
            "The proxy for http addresses: http://[USER:PASSWORD@]HOST[:PORT]. One on this computer's localhost is reached, too.",
            _proxy,
            json.dumps,
            at_once=True,
            secret=True,
        ),
        Key(
            "https_proxy",
            "address of a proxy",
            "The proxy for https addresses: also most often an http:// one.",
            _proxy,
            json.dumps,
            at_once=True,
            secret=True,
        ),
        Key(
            "no_proxy",
            "list of hosts, with their ports, or networks",
            "What is reached without a proxy: corp.example is all that is below it, too, .corp.example only what is below it."
            " localhost, and this computer (host.docker.internal), always are.",
            _texts(_unproxied),
            lambda texts: json.dumps(list(texts)),
            at_once=True,
        ),
        Key(
            "proxy_in_containers",
            "true or false",
            "Whether containers, and RUN of builds, have HTTP_PROXY, HTTPS_PROXY and NO_PROXY in their environment, in capitals and"
            " not, unless they bring their own. Containers that run have them from their next start.",
            _boolean,
            json.dumps,
            at_once=True,
            words=("true", "false"),
        ),
        Key(
            "certificates",
            "one of " + ", ".join(CERTIFICATES),
            "Whom TLS of the engine trusts, beside Mozilla's list. system: whom this computer does, such as a company's own"
            " authority. none: nobody else.",
            _choice(CERTIFICATES),
            json.dumps,
            at_once=True,
            words=CERTIFICATES,
        ),
        Key(
            "extra_certificates",
            "list of files",
            "More of them: files of certificates in PEM, by absolute paths (~ is allowed).",
            _texts(_file),
            lambda texts: json.dumps(list(texts)),
            at_once=True,
            of_files=True,
        ),
        Key(
            "certificates_in_containers",
            "true or false",
            "Whether containers, and RUN of builds, have these certificates as well, in a file along with Mozilla's:"
            " /run/host-services/ca-certificates.crt, of which SSL_CERT_FILE and its like tell. Containers that run have it from"
            " their next start.",
            _boolean,
            json.dumps,
            at_once=True,
            words=("true", "false"),
        ),
        Key(
            "ssh_agent",
            "system, none, or the path of an agent's socket",
            "The SSH agent that containers may ask, by -v /run/host-services/ssh-auth.sock:/ssh-agent -e SSH_AUTH_SOCK=/ssh-agent."
            " system: that of SSH_AUTH_SOCK in the environment of the command that starts the machine; on Windows OpenSSH's. It lists"
            " keys and signs for them, and does nothing else; containers without that mount do not reach it. More: docs/proxies.md.",
            _agent,
            json.dumps,
            at_once=True,
            words=AGENTS,
            of_files=True,
        ),
    )
}


KNOWN = "cove config set --help lists the settings"


def suggestion(name: str) -> str:
    """What a key that is none may have been meant to be, "" when nothing is like it."""
    close = difflib.get_close_matches(name.lower().replace("-", "_"), SCHEMA, 1)
    return f"; did you mean {close[0]}?" if close else ""


def checked_name(name: str) -> str:
    """`name` when it is a setting's. Raises `SettingsError`."""
    if name not in SCHEMA:
        raise SettingsError(f"{name} is not a setting{suggestion(name)}", KNOWN)
    return name


def parse(text: str, file: Path | str) -> Settings:
    """Settings from the text of a file. Raises `SettingsError` that tells of each mistake: file, line, column and key."""
    settings, mistakes = examined(text, file)
    if mistakes:
        raise tomlfile.refusal(file, mistakes)
    return settings


def examined(text: str, file: Path | str) -> tuple[Settings, list[Mistake]]:
    """Settings from the text of a file, and what is wrong with others of it. Raises `SettingsError` for what is no TOML."""
    values = {}
    mistakes = []
    for name, value in tomlfile.read(text, file).items():
        if name not in SCHEMA:
            mistakes.append(Mistake(name, *tomlfile.place(text, name), f"{name} is not a setting{suggestion(name)}"))
            continue
        try:
            values[name] = SCHEMA[name].parse(value)
        except ValueError as error:
            place = tomlfile.place(text, name, of_value=True)
            mistakes.append(Mistake(name, *place, f"{name} {error}", SCHEMA[name].kind))
    return Settings(**values), mistakes


def load(file: Path) -> Settings:
    """Settings of a machine. Raises `SettingsError`, or `MachineNotFound` when there is no such file."""
    return parse(_read(file), file)


def load_given(file: Path) -> tuple[Settings, frozenset[str]]:
    """Settings of a machine, and which of them the file has. Raises as `load` does."""
    text = _read(file)
    return parse(text, file), frozenset(tomlfile.read(text, file))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(tomlfile.MAX_FILE + 1)
    except FileNotFoundError:
        raise MachineNotFound(
            f"there is no machine {file.parent.name}",
            f"create it with: cove machine init {file.parent.name}; see those that exist with: cove machine list",
        ) from None
    except OSError as error:
        from cove.machine import ownership

        told = ownership.refusal(error) if isinstance(error, PermissionError) else None
        raise SettingsError(f"{file} cannot be read: {error.strerror}", told.hint if told else "") from error
    return tomlfile.decoded(data, file, "a settings file")


def render(settings: Settings) -> str:
    """The file that a new machine gets: every key, its description, its value."""
    parts = [HEADER]
    for key in SCHEMA.values():
        value = getattr(settings, key.name)
        lines = [f"# {line}" for line in _wrap(key.doc)]
        lines.append(f"# ({key.kind}; takes effect {key.counts})")
        lines.append(f"{'' if value != () else '# '}{key.name} = {key.show(value)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _wrap(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100)


def with_value(text: str, name: str, value: str, file: Path | str) -> str:
    """The text of a settings file with one key changed, comments kept. Raises `SettingsError`, also for mistakes of other keys
    when `name` was not one of the mistakes.

    `value` is what a user typed: `4`, `2GiB`, `auto`, `a:5000,b:5000`, or a value as TOML has it.
    """
    from cove.machine import edit

    key = SCHEMA[checked_name(name)]
    try:
        parsed = typed(key, value)
    except ValueError as error:
        raise SettingsError(f"{name} {error}", f"allowed: {key.kind}") from None
    _refuse_others(text, name, file)
    return edit.with_key(text, name, key.show(parsed), HEADER)


def without_value(text: str, name: str, file: Path | str) -> str:
    """The text of a settings file without one key, so that its default counts; one that is no setting goes, too.
    Raises as `with_value` does.
    """
    from cove.machine import edit

    if name not in SCHEMA and name in tomlfile.read(text, file):
        return edit.removed(text, name)
    key = SCHEMA[checked_name(name)]
    _refuse_others(text, name, file)
    return edit.without_key(text, name, key.show(key.default))


def _refuse_others(text: str, name: str, file: Path | str) -> None:
    """A file with mistakes may be mended one by one; else they are told of, by their places in the file as it is."""
    _, mistakes = examined(text, file)
    if mistakes and name not in [one.key for one in mistakes]:
        raise tomlfile.refusal(file, mistakes)


def of_start(settings: Settings) -> dict[str, str]:
    """What a machine keeps until its next start, as the file says it."""
    return {name: key.show(getattr(settings, name)) for name, key in SCHEMA.items() if not key.at_once}


def typed(key: Key, value: str) -> Any:
    """The checked setting of what a user typed. Raises `ValueError` saying what is wrong with it."""
    return key.parse(_typed(key, value))


def _typed(key: Key, value: str) -> Any:
    """What a user typed, as TOML would have it: a list may be separated by commas, and what `show` writes is taken too.

    Raises `ValueError`.
    """
    if value.lstrip().startswith(("[", '"')):
        import tomli

        try:
            return tomli.loads(f"value = {value}")["value"]
        except tomli.TOMLDecodeError:
            example = (
                '["a:5000", "b:5000"] or a:5000,b:5000' if isinstance(key.default, tuple) else key.show(key.default)
            )
            raise ValueError(f"must be written as {example}, not {_shown(value)}") from None
    if isinstance(key.default, bool):
        return {"true": True, "false": False}.get(value.strip().lower(), value)
    if key.name == "cpus" and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    return [one.strip() for one in value.split(",") if one.strip()] if isinstance(key.default, tuple) else value


def text_of(file: Path) -> str:
    """The text of the file on disk. Raises `SettingsError`, `MachineNotFound`."""
    return _read(file)


def write(file: Path, text: str) -> None:
    """Put `text` in the file's place, whole. Raises `OSError`."""
    # A link stays one: it may lead to where its owner keeps such files for several computers.
    write_whole(Path(os.path.realpath(file)), text.encode())


def set_value(file: Path, name: str, value: str) -> None:
    """Change one key of the file on disk, written whole. Raises as `with_value` and `load` do."""
    write(file, with_value(_read(file), name, value, file))
