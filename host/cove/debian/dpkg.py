"""dpkg's database of a system whose packages are unpacked and have yet to be configured.

Sources: dpkg(1) for the states, deb-conffiles(5), deb-triggers(5), and what dpkg itself leaves in /var/lib/dpkg.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

DIRECTORY = "var/lib/dpkg"


@dataclass
class Control:
    """What a package says of itself: `files` are the members of its control archive, each with its permissions."""

    fields: dict[str, str]
    stanza: str
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @classmethod
    def read(cls, archive: tarfile.TarFile) -> Control:
        """Read control.tar. Raises `ValueError` when it is not a package's."""
        files: dict[str, tuple[int, bytes]] = {}
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir() and name in ("", "."):
                continue
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or "/" in name or name.startswith("."):
                raise ValueError(f"its control archive has {member.name!r}")
            files[name] = (member.mode & 0o755, stream.read())
        if "control" not in files:
            raise ValueError("it has no control file")
        stanza = files.pop("control")[1].decode("utf-8").strip("\n")
        fields = dict(re.findall(r"^([A-Za-z0-9-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
        for needed in ("Package", "Version", "Architecture"):
            if needed not in fields:
                raise ValueError(f"its control file has no {needed}")
        return cls(fields, stanza, files)

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def label(self) -> str:
        """What its files in the database are called: packages that can be there for two architectures are told apart."""
        same = self.fields.get("Multi-Arch") == "same"
        return f"{self.name}:{self.fields['Architecture']}" if same else self.name

    @property
    def conffiles(self) -> list[str]:
        """Absolute paths; lines with a flag name files of earlier versions (deb-conffiles(5)), which are not there."""
        _, content = self.files.get("conffiles", (0, b""))
        return [line for line in content.decode("utf-8").splitlines() if line.startswith("/")]

    def interests(self) -> Iterator[tuple[str, str]]:
        """Each trigger it wants to hear of, with its own name as the database has it there."""
        _, content = self.files.get("triggers", (0, b""))
        for line in content.decode("utf-8").splitlines():
            directive, _, trigger = line.partition("#")[0].strip().partition(" ")
            if directive in ("interest", "interest-await"):
                yield trigger.strip(), self.label
            elif directive == "interest-noawait":
                yield trigger.strip(), f"{self.label}/noawait"


@dataclass
class Unpacked:
    """A package whose files lie in the tree: `paths` as its archive names them, `conffiles` with each one's MD5."""

    control: Control
    paths: list[str]
    conffiles: dict[str, str]
    archived: dict[str, str]
    """What the archive says instead of the package: it may know better how important it is (Priority, Section)."""

    @property
    def stanza(self) -> str:
        # A conffile whose MD5 is known and beside which no *.dpkg-new lies is one that dpkg has dealt with.
        head, _, rest = self.control.stanza.partition("\n")
        text = f"{head}\nStatus: install ok unpacked\n{rest}\n"
        for name, value in self.archived.items():
            line = f"{name}: {value}"
            text = re.sub(rf"(?m)^{name}:.*$", lambda _, line=line: line, text)  # type: ignore[misc]
        if self.conffiles:
            text += "Conffiles:\n" + "".join(f" {path} {md5}\n" for path, md5 in self.conffiles.items())
        return text


def database(packages: list[Unpacked]) -> Iterator[tuple[str, int, bytes]]:
    """Yield (path, permissions, content) of every file below /var/lib/dpkg."""
    triggers: dict[str, list[str]] = {}
    for package in packages:
        label = package.control.label
        for name, (permissions, content) in package.control.files.items():
            yield f"{DIRECTORY}/info/{label}.{name}", permissions, content
        listed = "".join(f"{path}\n" for path in package.paths)
        yield f"{DIRECTORY}/info/{label}.list", 0o644, listed.encode()
        for trigger, who in package.control.interests():
            triggers.setdefault(trigger, []).append(who)
    yield f"{DIRECTORY}/info/format", 0o644, b"1\n"
    yield f"{DIRECTORY}/available", 0o644, b""
    yield f"{DIRECTORY}/cmethopt", 0o644, b"apt apt\n"  # how dselect gets packages; debootstrap says so too
    yield f"{DIRECTORY}/status", 0o644, "\n".join(package.stanza for package in packages).encode()
    by_path = {trigger: who for trigger, who in triggers.items() if trigger.startswith("/")}
    for trigger in triggers.keys() - by_path.keys():
        yield f"{DIRECTORY}/triggers/{trigger}", 0o644, "".join(f"{who}\n" for who in triggers[trigger]).encode()
    lines = "".join(f"{path} {who}\n" for path, whose in sorted(by_path.items()) for who in whose)
    yield f"{DIRECTORY}/triggers/File", 0o644, lines.encode()
    yield f"{DIRECTORY}/triggers/Unincorp", 0o644, b""
