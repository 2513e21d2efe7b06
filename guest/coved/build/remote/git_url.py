"""What a build calls a git repository: ``https://host/x.git#ref:folder``, ``git@host:x.git``, ``git://...`` and queries, as
BuildKit reads them (its dfgitutil and gitutil)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from coved.build.errors import BuildError
from coved.build.files.places import clean

_PROTOCOL = re.compile(r"^[a-zA-Z0-9]+://")
_SCP = re.compile(r"^([a-zA-Z0-9-_]+)@([a-zA-Z0-9-.]+):(.*?)(?:\?(.*?))?(?:#(.*))?")
_COMMIT = re.compile(r"[a-f0-9]{40}|[a-f0-9]{64}")
_SCHEMES = ("http", "https", "ssh", "git")
TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_FLAGS = ("submodules", "keep-git-dir", "fetch-by-commit")


@dataclass(frozen=True)
class GitRef:
    remote: str
    """URL of the repository, or ``user@host:path``; with what it says of who asks."""
    ref: str = ""
    """A branch, a tag, a whole ref or a commit; "" is the repository's default."""
    subdir: str = ""
    checksum: str = ""
    """How the commit must begin."""
    keep_git_dir: bool | None = None
    submodules: bool = True
    commit_time: bool = False
    """Files have the commit's time (``mtime=commit``)."""
    fetch_by_commit: bool = False
    local_looking: bool = False
    """github.com/user/repository, which may be a path as well: only contexts may be named so."""


def is_commit(text: str) -> bool:
    return _COMMIT.fullmatch(text) is not None


def parse(text: str) -> GitRef | None:
    """None when it names no repository. Raises BuildError when it does, but says impossible things."""
    if text.startswith(("./", "../")):
        return None
    local_looking = text.startswith("github.com/")
    if local_looking or _PROTOCOL.match(text):
        return _of_url(f"https://{text}" if local_looking else text, local_looking=local_looking)
    if found := _SCP.fullmatch(text):
        user, host, path, query, fragment = found.groups()
        return _with(f"{user}@{host}:{path}", fragment or "", query or "", local_looking=False)
    return None


def is_elsewhere(text: str) -> bool:
    """Whether a context is a repository, or a file of the web. Raises BuildError for a repository that is named in an impossible way."""
    return parse(text) is not None or text.startswith(("http://", "https://"))


def _of_url(text: str, *, local_looking: bool) -> GitRef | None:
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES:
        return None
    if parts.scheme in ("http", "https") and not parts.path.endswith(".git") and not local_looking:
        return None
    remote = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return _with(remote, parts.fragment, parts.query, local_looking=local_looking)


def _with(remote: str, fragment: str, query: str, *, local_looking: bool) -> GitRef:
    ref, _, folder = fragment.partition(":")
    words = _Words(ref, clean(folder))
    asked = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in asked]
    for name, value in asked:
        if names.count(name) > 1:
            raise BuildError(f'query "{name}" has multiple values')
        words.add(name, value)
    words.settle()
    return GitRef(
        remote,
        words.ref,
        words.subdir,
        words.checksum,
        words.flags.get("keep-git-dir"),
        words.flags.get("submodules", True),
        words.commit_time,
        words.flags.get("fetch-by-commit", False),
        local_looking,
    )


class _Words:
    """What fragment and query say together."""

    def __init__(self, ref: str, subdir: str) -> None:
        self.ref = ref
        self.subdir = subdir
        self.checksum = ""
        self.commit_time = False
        self.flags: dict[str, bool] = {}
        self._tag = ""
        self._branch = ""

    def add(self, name: str, value: str) -> None:
        if name in _FLAGS:
            if value not in ("", *TRUE, *_FALSE):
                raise BuildError(f'invalid {name} value: "{value}"')
            self.flags[name] = value not in _FALSE
            return
        if not value:
            raise BuildError(f'query "{name}" has no value')
        match name:
            case "ref":
                self._set_ref(value)
            case "tag":
                self._tag = value
            case "branch":
                self._branch = value
            case "subdir":
                if self.subdir not in ("", value):
                    raise BuildError(f'subdir conflicts: "{self.subdir}" vs "{value}"')
                self.subdir = clean(value)
            case "checksum" | "commit":
                self.checksum = value
            case "mtime":
                if value not in ("checkout", "commit"):
                    raise BuildError(f'invalid mtime value: "{value}" (must be "checkout" or "commit")')
                self.commit_time = value == "commit"
            case _:
                raise BuildError(f'unexpected query "{name}"')

    def settle(self) -> None:
        if self._tag and self._branch:
            raise BuildError("branch conflicts with tag")
        for name, prefix in ((self._tag, "refs/tags/"), (self._branch, "refs/heads/")):
            if name:
                self._set_ref(name if name.startswith(prefix) else prefix + name)

    def _set_ref(self, ref: str) -> None:
        if self.ref not in ("", ref):
            raise BuildError(f'ref conflicts: "{self.ref}" vs "{ref}"')
        self.ref = ref
