"""An instruction's line made the typed instruction that its keyword says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NoReturn, TypedDict

from coved.dockerfile import arguments, heredocs, mounts, numbers, words
from coved.dockerfile.flags import Flags
from coved.dockerfile.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    DockerfileError,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Location,
    Maintainer,
    Mount,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from coved.dockerfile.lines import Line
from coved.dockerfile.suggest import did_you_mean
from coved.dockerfile.text import SPACE, quote

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.IGNORECASE)
_LEAST_INTERVAL = 10**6
"""Nanoseconds."""


class _Common(TypedDict):
    keyword: str
    source: str
    location: Location
    comments: tuple[str, ...]


def instruction(line: Line, escape: str) -> Instruction:
    """Raises ``DockerfileError``, without a location, in BuildKit's words."""
    keyword = line.keyword.upper()
    reader = _READERS.get(keyword)
    if reader is None:
        message = f"unknown instruction: {line.keyword}"
        raise DockerfileError(did_you_mean(message, line.keyword, _READERS, any_case=True))
    common = _Common(keyword=keyword, source=_source(line), location=line.location, comments=line.comments)
    return reader(common, line, escape)


def check_arguments(keyword: str, rest: str, escape: str) -> None:
    """Raises ``DockerfileError`` for what BuildKit's first pass, which knows no instruction yet, refuses."""
    keyword = keyword.upper()
    if keyword in ("ENV", "LABEL"):
        arguments.pairs(rest, keyword, escape)
    elif keyword in ("ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"):
        arguments.exec_form(rest)
    elif keyword == "HEALTHCHECK":
        arguments.exec_form(_health_command(rest)[1])
    elif keyword == "ONBUILD":
        inner, _, rest = arguments.split_line(rest, escape)
        if inner.upper() != "ONBUILD":
            check_arguments(inner, rest, escape)


def _source(line: Line) -> str:
    documents = (f"\n{document.content}{document.start.name}" for document in line.documents)
    return line.text.strip(SPACE) + "".join(documents)


def _refuse(message: str) -> NoReturn:
    raise DockerfileError(message)


def _at_least_one(keyword: str) -> NoReturn:
    _refuse(f"{keyword} requires at least one argument")


def _no_flags(line: Line) -> None:
    Flags(line.flags)


def _only(common: _Common, line: Line) -> str:
    """The one argument of those that take all of the line as one."""
    if not line.rest:
        _refuse(f"{common['keyword']} requires exactly one argument")
    return line.rest


def _command(line: Line) -> Command:
    found = arguments.exec_form(line.rest)
    return Command((line.rest,), shell=True) if found is None else Command(tuple(found), shell=False)


def _list(text: str) -> list[str]:
    found = arguments.exec_form(text)
    return arguments.by_blanks(text) if found is None else found


def _pairs(common: _Common, line: Line, escape: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    _no_flags(line)
    keyword = common["keyword"]
    found, legacy = arguments.pairs(line.rest, keyword, escape)
    if not found:
        _at_least_one(keyword)
    if not all(name for name, _ in found):
        _refuse(f"{keyword} names can not be blank")
    return tuple(found), legacy


def _env(common: _Common, line: Line, escape: str) -> Env:
    pairs, legacy = _pairs(common, line, escape)
    return Env(**common, pairs=pairs, legacy=legacy)


def _label(common: _Common, line: Line, escape: str) -> Label:
    pairs, legacy = _pairs(common, line, escape)
    return Label(**common, pairs=pairs, legacy=legacy)


def _arg(common: _Common, line: Line, escape: str) -> Arg:
    found = arguments.words(line.rest, escape)
    if not found:
        _at_least_one("ARG")
    pairs: list[tuple[str, str | None]] = []
    for word in found:
        name, equals, value = word.partition("=")
        if equals and not name:
            _refuse("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return Arg(**common, pairs=tuple(pairs))


def _from(common: _Common, line: Line, escape: str) -> From:
    found = arguments.by_blanks(line.rest)
    name = ""
    if len(found) == 3 and found[1].lower() == "as":
        name = found[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            shown = quote(found[2])
            _refuse(f"invalid name for build stage: {shown}, name can't start with a number or contain symbols")
    elif len(found) != 1:
        _refuse("FROM requires either one or three arguments")
    flags = Flags(line.flags, texts=["platform"])
    return From(**common, image=found[0], platform=flags.text("platform"), name=name)


def _run(common: _Common, line: Line, escape: str) -> Run:
    flags = Flags(line.flags, texts=["network", "security"], lists=["mount", "device"])
    mount_flags = flags.all("mount")
    found = tuple(_mount_as_written(flag, escape) for flag in mount_flags)
    network = flags.text("network", "default")
    if network not in ("default", "none", "host"):
        _refuse(f"invalid network mode {quote(network)}")
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        _refuse(f"security {quote(security)} is not valid")
    return Run(
        **common,
        command=_command(line),
        mounts=found,
        network=network,
        security=security,
        heredocs=_documents(line),
        devices=tuple(mounts.device(flag) for flag in flags.all("device")),
        mount_flags=mount_flags,
    )


def _mount_as_written(flag: str, escape: str) -> Mount:
    """The mount with variables as they are; what is wrong with it matters only once its instruction is carried out."""
    from_ = mounts.mount_from(flag)
    style = words.Style(escape=escape, keep_unset=True)
    try:
        return mounts.mount(flag, lambda value: words.process(value, {}, style).text)
    except DockerfileError:
        return Mount(from_=from_)


def _documents(line: Line) -> tuple[Heredoc, ...]:
    return tuple(
        Heredoc(
            name=document.start.name,
            content=heredocs.chomp(document.content) if document.start.chomp else document.content,
            expand=document.start.expand,
            chomp=document.start.chomp,
        )
        for document in line.documents
    )


def _paths(keyword: str, line: Line) -> tuple[tuple[str, ...], str, tuple[Heredoc, ...]]:
    """Sources, destination, and sources that are documents."""
    *sources, destination = _list(line.rest)
    if heredocs.maybe_start(destination):
        _refuse(f"{keyword} cannot accept a heredoc as a destination")
    contents = {document.start.name: document.content for document in line.documents}
    paths: list[str] = []
    documents: list[Heredoc] = []
    for source in sources:
        start = heredocs.maybe_start(source)
        if start is None:
            paths.append(source)
            continue
        content = contents.get(start.name, "")
        content = heredocs.chomp(content) if start.chomp else content
        documents.append(Heredoc(start.name, content, start.expand, start.chomp))
    return tuple(paths), destination, tuple(documents)


def _copy_flags(common: _Common, line: Line, texts: list[str], switches: list[str]) -> Flags:
    keyword = common["keyword"]
    if len(_list(line.rest)) < 2:
        _refuse(
            f"{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
        )
    return Flags(line.flags, texts=["chown", "chmod", *texts], switches=["link", *switches], lists=["exclude"])


def _add(common: _Common, line: Line, escape: str) -> Copy:
    flags = _copy_flags(common, line, ["checksum"], ["keep-git-dir", "unpack"])
    sources, destination, documents = _paths("ADD", line)
    return Copy(
        **common,
        sources=sources,
        destination=destination,
        documents=documents,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        excludes=flags.all("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=bool(flags.switch("keep-git-dir")),
        unpack=flags.switch("unpack"),
    )


def _copy(common: _Common, line: Line, escape: str) -> Copy:
    flags = _copy_flags(common, line, ["from"], ["parents"])
    sources, destination, documents = _paths("COPY", line)
    return Copy(
        **common,
        sources=sources,
        destination=destination,
        documents=documents,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        parents=bool(flags.switch("parents")),
        excludes=flags.all("exclude"),
    )


def _cmd(common: _Common, line: Line, escape: str) -> Cmd:
    _no_flags(line)
    return Cmd(**common, command=_command(line))


def _entrypoint(common: _Common, line: Line, escape: str) -> Entrypoint:
    _no_flags(line)
    return Entrypoint(**common, command=_command(line))


def _shell(common: _Common, line: Line, escape: str) -> Shell:
    _no_flags(line)
    found = arguments.exec_form(line.rest)
    if not line.rest or found == []:
        _at_least_one("SHELL")
    if found is None:
        _refuse("SHELL requires the arguments to be in JSON form")
    return Shell(**common, words=tuple(found))


def _health_command(text: str) -> tuple[str, str]:
    """Its kind, CMD or NONE, and the rest."""
    end = next((i for i, char in enumerate(text) if char in SPACE), len(text))
    return text[:end], text[end:].strip(SPACE)


def _healthcheck(common: _Common, line: Line, escape: str) -> Healthcheck:
    if not line.rest:
        _at_least_one("HEALTHCHECK")
    kind, rest = _health_command(line.rest)
    kind = kind.upper()
    found = arguments.exec_form(rest)
    if kind == "NONE":
        if rest and found != []:
            _refuse("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(**common, test=("NONE",))
    flags = Flags(line.flags, texts="interval timeout start-period start-interval retries".split())
    if kind != "CMD":
        _refuse(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)")
    if not rest or found == []:
        _refuse("Missing command after HEALTHCHECK CMD")
    retries = flags.text("retries")
    return Healthcheck(
        **common,
        test=("CMD-SHELL", rest) if found is None else ("CMD", *found),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(retries) if retries else 0,
    )


def _interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    nanoseconds = numbers.duration(text)
    if nanoseconds and nanoseconds < _LEAST_INTERVAL:
        _refuse(f"Interval {quote(name)} cannot be less than 1ms")
    return nanoseconds


def _retries(text: str) -> int:
    retries = numbers.whole(text, bits=32)
    if retries < 0:
        _refuse(f"--retries cannot be negative ({retries})")
    return retries


def _expose(common: _Common, line: Line, escape: str) -> Expose:
    if not line.rest:
        _at_least_one("EXPOSE")
    _no_flags(line)
    return Expose(**common, ports=tuple(sorted(arguments.by_blanks(line.rest))))


def _volume(common: _Common, line: Line, escape: str) -> Volume:
    found = [path.strip(SPACE) for path in _list(line.rest)]
    if not found:
        _at_least_one("VOLUME")
    _no_flags(line)
    if not all(found):
        _refuse("VOLUME specified can not be an empty string")
    return Volume(**common, paths=tuple(found))


def _user(common: _Common, line: Line, escape: str) -> User:
    user = _only(common, line)
    _no_flags(line)
    return User(**common, user=user)


def _workdir(common: _Common, line: Line, escape: str) -> Workdir:
    path = _only(common, line)
    _no_flags(line)
    return Workdir(**common, path=path)


def _stopsignal(common: _Common, line: Line, escape: str) -> Stopsignal:
    return Stopsignal(**common, signal=_only(common, line))


def _maintainer(common: _Common, line: Line, escape: str) -> Maintainer:
    name = _only(common, line)
    _no_flags(line)
    return Maintainer(**common, name=name)


def _onbuild(common: _Common, line: Line, escape: str) -> Onbuild:
    if not line.rest:
        _at_least_one("ONBUILD")
    _no_flags(line)
    keyword = arguments.split_line(line.rest, escape)[0].upper()
    if keyword == "ONBUILD":
        _refuse("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in ("MAINTAINER", "FROM"):
        _refuse(f"{keyword} isn't allowed as an ONBUILD trigger")
    return Onbuild(**common, trigger=_ONBUILD.sub("", common["source"], count=1))


_READERS: dict[str, Callable[[_Common, Line, str], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
