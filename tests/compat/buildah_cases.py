"""The cases of buildah's conformance tests, read from a checkout of it (tests/conformance)."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from go_source import Function, Made, Reader, Token, tokens

TEST_DATE = 1485449953
"""``testDate`` in conformance_test.go: the mtime of the Dockerfile and the context."""
_NAMES: Mapping[str, Any] = {
    "true": True,
    "false": False,
    "nil": None,
    "syscall.S_ISUID": stat.S_ISUID,
    "syscall.S_ISGID": stat.S_ISGID,
    "syscall.S_ISVTX": stat.S_ISVTX,
    "cISUID": 0o4000,
    "cISGID": 0o2000,
    "cISVTX": 0o1000,
    "testDate": TEST_DATE,
    "os.O_CREATE": 0,
    "os.O_WRONLY": 0,
    "xattrPAXRecordNamespace": "SCHILY.xattr.",
    "tar.TypeReg": tarfile.REGTYPE,
    "tar.TypeDir": tarfile.DIRTYPE,
}


@dataclass(frozen=True)
class Case:
    """One case. ``skipped`` are buildah's names for what it lets differ: ``(dir):usr:mtime``."""

    name: str
    context: str
    dockerfile: str
    text: str
    tweak: Function | None
    fails_at: int
    buildkit: bool
    both: bool
    without_docker: bool
    build_args: Mapping[str, str]
    skipped: tuple[str, ...]


def read(checkout: Path) -> list[Case]:
    """Raises NotUnderstood, OSError."""
    source = (checkout / "tests/conformance/conformance_test.go").read_text()
    _, _, rest = source.partition("var internalTestCases = []testCase")
    calls = {
        "strings.Join": lambda parts, between: between.join(parts),
        "fmt.Sprintf": lambda text, *values: text.replace("%o", "{:o}").format(*values),
        "selinuxMountFlag": lambda: "",
    }
    return [_case(fields) for fields in Reader(tokens(rest), _NAMES, calls).literal()]


def _case(fields: Mapping[str, Any]) -> Case:
    return Case(
        name=fields["name"],
        context=fields.get("contextDir", ""),
        dockerfile=fields.get("dockerfile", ""),
        text=fields.get("dockerfileContents", ""),
        tweak=fields.get("tweakContextDir"),
        fails_at=fields.get("shouldFailAt", 0),
        buildkit=fields.get("dockerUseBuildKit", False),
        both=fields.get("testUsingVolumes", False) or fields.get("testUsingSetParent", False),
        without_docker=fields.get("withoutDocker", False),
        build_args=fields.get("buildArgs", {}),
        skipped=(*fields.get("fsSkip", ()), *fields.get("fsSkipCompatVolumesTrue", ())),
    )


def lay_out(checkout: Path, case: Case, target: Path) -> Path:
    """Makes the case's context at ``target``, which must not be there yet; gives its Dockerfile's path.

    Raises NotUnderstood, OSError.
    """
    data = checkout / "tests/conformance/testdata"
    if case.context:
        shutil.copytree(data / case.context, target, symlinks=True)
    else:
        target.mkdir()
        if case.dockerfile:
            shutil.copy2(data / case.dockerfile, target / posixpath.basename(case.dockerfile))
    dockerfile = target / (case.dockerfile or "Dockerfile")
    text = case.text or dockerfile.read_text()
    if case.tweak is not None:
        _tweak(case.tweak, target)
    dockerfile.write_text(text)
    for one in (dockerfile, target):
        os.utime(one, (TEST_DATE, TEST_DATE))
    return dockerfile


def _tweak(function: Function, context: Path) -> None:
    archives: list[_Archive] = []

    def archive(path: str) -> _Archive:
        archives.append(_Archive(path))
        return archives[-1]

    calls = {
        "filepath.Join": os.path.join,
        "strings.Join": lambda parts, between: between.join(parts),
        "os.WriteFile": _write,
        "os.Mkdir": os.mkdir,
        "os.Chown": os.chown,
        "os.Chtimes": lambda path, accessed, modified: os.utime(path, (accessed, modified)),
        "syscall.Chmod": os.chmod,
        "copier.Lsetxattrs": _set_xattrs,
        "os.OpenFile": lambda path, *_: path,
        "tar.NewWriter": archive,
        "tw.WriteHeader": lambda header: archives[-1].begin(header),
        "tw.Write": lambda content: archives[-1].write(content),
        "io.Copy": lambda to, content: to.write(content),
        "bytes.NewReader": bytes,
        "require.NoError": lambda *_: None,
    }
    Reader([*function.body, Token("newline", "\n")], {**_NAMES, "contextDir": str(context)}, calls).run()
    for one in archives:
        one.close()


def _write(path: str, content: bytes, mode: int) -> None:
    Path(path).write_bytes(content)
    Path(path).chmod(mode & ~0o022)


def _set_xattrs(path: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        os.setxattr(path, name, value.encode(), follow_symlinks=False)


class _Archive:
    """What Go's tar.Writer is told, as an archive."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._members: list[tuple[tarfile.TarInfo, bytes]] = []

    def begin(self, header: Made) -> None:
        member = tarfile.TarInfo(header.fields["Name"])
        member.type, member.mode = header.fields["Typeflag"], header.fields["Mode"]
        member.uid, member.gid = header.fields.get("Uid", 0), header.fields.get("Gid", 0)
        member.mtime = header.fields["ModTime"]
        member.pax_headers = header.fields.get("PAXRecords", {})
        self._members.append((member, b""))

    def write(self, content: bytes) -> None:
        member, before = self._members[-1]
        member.size = len(before + content)
        self._members[-1] = (member, before + content)

    def close(self) -> None:
        with tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT) as file:
            for member, content in self._members:
                file.addfile(member, io.BytesIO(content))


def skips(case: Case, path: Sequence[str], attribute: str) -> bool:
    """Whether buildah lets this attribute of the file at ``path`` (names from the root) differ."""
    full = "".join(f"(dir):{name}:" for name in path)
    always = ("(dir):dev:mtime", "(dir):proc:mtime", "(dir):sys:mtime", "(dir):etc:mtime")
    return any(full + attribute == one or full.startswith(one + ":") for one in (*always, *case.skipped))
