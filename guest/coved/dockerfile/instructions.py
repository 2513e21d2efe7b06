"""The instructions of a Dockerfile (docs.docker.com/reference/dockerfile), as the parser gives them.

Texts are as they were written, variables and all: ``expand`` gives the same instruction with its variables replaced, where
the language replaces them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Location:
    """Lines of the Dockerfile, counted from 1; both are included."""

    first: int
    last: int


@dataclass(frozen=True)
class Heredoc:
    """``expand``: its delimiter was not quoted. ``content`` is without the delimiters, and without tabs after ``<<-``."""

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    """It was ``<<-``."""


@dataclass(frozen=True)
class Instruction:
    """``source`` is the instruction as it was written, on one line where it was continued; heredocs follow it.

    ``keyword`` is in capitals.
    """

    keyword: str
    source: str
    location: Location
    comments: tuple[str, ...] = field(default=(), kw_only=True)
    """The comment lines right above, without their number signs."""


@dataclass(frozen=True)
class From(Instruction):
    image: str
    """An image, or the name of an earlier stage."""
    platform: str = ""
    name: str = ""
    """What the stage is called (AS), in lower case; "" for none."""


@dataclass(frozen=True)
class Arg(Instruction):
    pairs: tuple[tuple[str, str | None], ...]
    """None: no default."""


@dataclass(frozen=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False
    """It was the old form, with a space: ``ENV name the value``."""


@dataclass(frozen=True)
class Label(Instruction):
    pairs: tuple[tuple[str, str], ...]
    legacy: bool = False
    """It was the old form, with a space: ``LABEL name the value``."""


@dataclass(frozen=True)
class Command:
    """What is run: the words of the exec form, or one text for a shell."""

    words: tuple[str, ...]
    shell: bool


@dataclass(frozen=True)
class Mount:
    """``RUN --mount``. Which fields mean something depends on the ``kind``: bind, cache, tmpfs, secret or ssh."""

    kind: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    """A stage, an image or a named context; "" is the build context, and for a cache an empty folder."""
    id: str = ""
    sharing: str = "shared"
    """Of a cache: shared, private or locked."""
    read_only: bool | None = None
    """None: as the kind has it (a bind is, a cache is not)."""
    required: bool = False
    size: int = 0
    """Of a tmpfs, in bytes; 0 is without limit."""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None
    """A secret becomes this variable as well."""


@dataclass(frozen=True)
class Device:
    """``RUN --device``."""

    name: str
    required: bool = False


@dataclass(frozen=True)
class Run(Instruction):
    command: Command
    mounts: tuple[Mount, ...] = ()
    """Before ``expand`` only ``from_`` is sure: the rest may hold variables, even in a number's place."""
    network: str = "default"
    """default, none or host."""
    security: str = "sandbox"
    """sandbox or insecure."""
    heredocs: tuple[Heredoc, ...] = ()
    """``RUN <<EOF``: the one document is the script; with ``RUN cmd <<EOF`` they are ``cmd``'s, and the shell reads them."""
    devices: tuple[Device, ...] = ()
    mount_flags: tuple[str, ...] = ()
    """The ``--mount`` flags as they are written, for ``expand``."""


@dataclass(frozen=True)
class Copy(Instruction):
    """COPY and ADD."""

    sources: tuple[str, ...]
    destination: str
    documents: tuple[Heredoc, ...] = ()
    """Sources that stand in the Dockerfile itself; each becomes a file of its name."""
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    """ADD: what a URL's file must have, "sha256:..."."""
    keep_git_dir: bool = False
    unpack: bool | None = None
    """ADD: whether archives are unpacked; None is as it always was, local ones are and URLs' are not."""


@dataclass(frozen=True)
class Cmd(Instruction):
    command: Command


@dataclass(frozen=True)
class Entrypoint(Instruction):
    command: Command


@dataclass(frozen=True)
class Shell(Instruction):
    words: tuple[str, ...]


@dataclass(frozen=True)
class Healthcheck(Instruction):
    """Durations in nanoseconds, 0 where none is given; ``test`` is as the API has it, ["NONE"] switches it off."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True)
class User(Instruction):
    user: str


@dataclass(frozen=True)
class Workdir(Instruction):
    path: str


@dataclass(frozen=True)
class Stopsignal(Instruction):
    signal: str


@dataclass(frozen=True)
class Onbuild(Instruction):
    trigger: str
    """The instruction to follow in a build on top of this image, as it is written."""


@dataclass(frozen=True)
class Maintainer(Instruction):
    name: str


@dataclass(frozen=True)
class Warning:
    """A rule of ``docker build --check`` that is not kept (docs.docker.com/reference/build-checks)."""

    rule: str
    """Such as "StageNameCasing"."""
    description: str
    url: str
    message: str
    location: Location
    filename: str = ""
    text: str = ""
    """The Dockerfile's, for whoever shows the lines; "" where nobody has said."""


@dataclass(frozen=True)
class Stage:
    base: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        return self.base.name


@dataclass(frozen=True)
class Dockerfile:
    text: str
    """As it came, for excerpts."""
    escape: str
    """The escape character, a backslash or a backtick."""
    meta_args: tuple[Arg, ...]
    """ARGs before the first FROM."""
    stages: tuple[Stage, ...]
    directives: dict[str, str] = field(default_factory=dict)
    """Parser directives by their names in lower case: syntax, escape, check."""
    warnings: tuple[Warning, ...] = ()
    """What the parser alone can know."""


class DockerfileError(Exception):
    """The Dockerfile cannot be understood, in BuildKit's words; ``location`` says where."""

    def __init__(self, message: str, location: Location | None = None) -> None:
        super().__init__(message)
        self.location = location
        self.read: Dockerfile | None = None
        """What was understood before, when it is an instruction that cannot be."""
