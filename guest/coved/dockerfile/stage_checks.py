"""The checks that follow a Dockerfile stage by stage, as a build would."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from coved.dockerfile import ports, predefined
from coved.dockerfile.expansion import Expander
from coved.dockerfile.ignore import Matcher
from coved.dockerfile.image_names import is_image_name
from coved.dockerfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    DockerfileError,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Location,
    Onbuild,
    Run,
    Shell,
    Stage,
    Workdir,
)
from coved.dockerfile.parser import parse_instruction
from coved.dockerfile.rules import Report, keyword_of
from coved.dockerfile.suggest import nearest
from coved.dockerfile.text import quote
from coved.dockerfile.wildcards import clean

_ALL = frozenset({"*", "**", "**/*"})
"""Patterns that leave out all of a context."""
_MOST_HINTS = 200
_MOST_KNOWN = 1000
"""Beyond these nobody is asked whether they meant another name: each question takes as long as there are names."""
_ELSEWHERE = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
_SECRET = re.compile(
    "(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile("(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


@dataclass(frozen=True)
class BaseImage:
    """What an image is to the checks of a stage on top of it."""

    environment: Mapping[str, str]
    shell: bool = False
    """It has a shell of its own (SHELL)."""
    triggers: tuple[str, ...] = ()
    """ONBUILD."""
    platform: str = ""


@dataclass
class _State:
    """What a stage has come to while its instructions are gone through."""

    stage: Stage
    base: _State | None
    image: str
    """The base image's expanded name."""
    known: bool = True
    """Whether the environment is."""
    environment: dict[str, str] = field(default_factory=dict)
    arguments: set[str] = field(default_factory=set)
    shell: bool = False
    workdir: bool = False
    once: dict[type[Instruction], Location] = field(default_factory=dict)
    """Of instructions of which the last one counts, where the last one was."""

    def triggers(self) -> list[str]:
        """Of a base that is a stage."""
        return [step.trigger for step in self.stage.instructions if isinstance(step, Onbuild)]


class StageChecks:
    def __init__(
        self,
        dockerfile: Dockerfile,
        report: Report,
        build_args: Mapping[str, str],
        arguments: Mapping[str, str],
        ignore: Matcher | None,
        images: Mapping[str, BaseImage],
    ) -> None:
        self._dockerfile = dockerfile
        self._report = report
        self._build_args = build_args
        self._predefined = arguments
        self._ignore = ignore
        self._images = images
        self._states: list[_State] = []
        self._by_name: dict[str, _State] = {}
        self._globals: dict[str, str] = {}
        self._hints = 0

    def run(self, target: str) -> None:
        """For the stage ``target``, "" for the last, and those that go into it."""
        self._check_defaults()
        try:
            self._globals = self._global_arguments(self._build_args)
            for stage in self._dockerfile.stages:
                self._add(stage)
        except DockerfileError:
            return
        wanted = self._by_name.get(target.lower(), self._states[-1])
        reached = self._reached(wanted)
        for state in self._states:
            if id(state) in reached:
                self._check_stage(state)

    def _expander(self, environment: Mapping[str, str]) -> Expander:
        return Expander(environment, self._dockerfile.escape)

    def _global_arguments(self, build_args: Mapping[str, str]) -> dict[str, str]:
        found = dict(self._predefined)
        for instruction in self._dockerfile.meta_args:
            for name, default in instruction.pairs:
                if name in build_args:
                    found[name] = build_args[name]
                elif default is not None:
                    found[name] = self._expander(found).text(default)
        return found

    def _check_defaults(self) -> None:
        """Whether there is an image to begin with when no argument is given."""
        try:
            defaults = self._global_arguments({})
            for stage in self._dockerfile.stages:
                base = stage.base
                if not is_image_name(self._expander(defaults).text(base.image)):
                    message = f"Default value for ARG {base.image} results in empty or invalid base image name"
                    self._report.add("InvalidDefaultArgInFrom", message, base.location)
        except DockerfileError:
            return

    def _add(self, stage: Stage) -> None:
        base = stage.base
        report = self._report.above(base)
        image = self._from_text(base.image, base, report).text(base.image)
        if base.platform:
            self._check_platform(base, report)
        state = _State(stage, self._by_name.get(image), image)
        self._states.append(state)
        if stage.name:
            self._by_name[stage.name] = state

    def _meant(self, name: str, known: Collection[str]) -> str:
        if self._hints >= _MOST_HINTS or len(known) > _MOST_KNOWN:
            return ""
        self._hints += 1
        return nearest(name, known)

    def _from_text(self, text: str, base: From, report: Report) -> Expander:
        """The expander of one of FROM's texts, after its undeclared arguments are reported; raises ``DockerfileError``."""
        expander = self._expander(self._globals)
        try:
            expander.text(text)
        finally:
            declared = [name for step in self._dockerfile.meta_args for name, _ in step.pairs] + list(self._globals)
            for name in sorted(expander.unset.difference(declared)):
                meant = self._meant(name, declared)
                hint = f" (did you mean {meant}?)" if meant else ""
                report.add("UndefinedArgInFrom", f"FROM argument '{name}' is not declared{hint}", base.location)
        return expander

    def _check_platform(self, base: From, report: Report) -> None:
        expander = self._from_text(base.platform, base, report)
        text = expander.text(base.platform)
        if expander.used == {"TARGETPLATFORM"} and not expander.unset:
            if text == self._globals.get("TARGETPLATFORM"):
                message = f"Setting platform to predefined {base.platform} in FROM is redundant as this is the default behavior"
                report.add("RedundantTargetPlatform", message, base.location)
        elif not expander.used and not expander.unset:
            platform = predefined.platform(text)
            if platform and not any(part in base.name for part in platform[:2]):
                message = f"FROM --platform flag should not use constant value {quote(text)}"
                report.add("FromPlatformFlagConstDisallowed", message, base.location)

    def _reached(self, target: _State) -> set[int]:
        """The identities of the stages that go into one."""
        reached: set[int] = set()
        waiting = [target]
        while waiting:
            state = waiting.pop()
            if id(state) in reached:
                continue
            reached.add(id(state))
            if state.base:
                waiting.append(state.base)
            for instruction in state.stage.instructions:
                waiting += filter(None, map(self._find, _sources(instruction)))
        return reached

    def _find(self, name: str) -> _State | None:
        found = self._by_name.get(name.lower())
        if found or not name.isdecimal() or not name.isascii() or len(name) > 9:
            return found
        return self._states[int(name)] if int(name) < len(self._states) else None

    def _check_stage(self, state: _State) -> None:
        triggers = self._begin(state)
        location = state.stage.base.location
        try:
            for trigger in triggers:
                step = parse_instruction(trigger)
                self._check_step(state, replace(step, location=location, comments=()))
            for step in state.stage.instructions:
                self._check_step(state, step)
        except DockerfileError:
            return

    def _begin(self, state: _State) -> list[str]:
        """What the stage has from its base; gives the base's triggers."""
        triggers: list[str] = []
        if state.base:
            base = state.base
            state.known, state.shell, state.workdir = base.known, base.shell, base.workdir
            state.environment = dict(base.environment)
            state.arguments = set(base.arguments)
            triggers = base.triggers()
        elif image := self._images.get(state.image):
            state.environment = dict(image.environment)
            state.shell = image.shell
            triggers = list(image.triggers)
            self._check_image_platform(state, image)
        else:
            state.known = state.image == "scratch"
        state.environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        return triggers

    def _check_image_platform(self, state: _State, image: BaseImage) -> None:
        base = state.stage.base
        text = self._expander(self._globals).text(base.platform) or self._globals.get("TARGETPLATFORM", "")
        wanted, found = predefined.platform(text), predefined.platform(image.platform)
        if wanted and found and wanted[:2] != found[:2]:
            was = f"pulled with platform {quote(str(found))}, expected {quote(str(wanted))} for current build"
            self._report.add("InvalidBaseImagePlatform", f"Base image {state.image} was {was}", base.location)

    def _check_step(self, state: _State, step: Instruction) -> None:
        """Raises ``DockerfileError``."""
        report = self._report.above(step)
        if isinstance(step, Arg):
            self._check_arg(state, step, report)
            return
        expander = self._expander(state.environment)
        try:
            expanded = expander.instruction(step)
        finally:
            self._check_unset(state, expander, step, report)
        if expander.unset and not state.known and not isinstance(expanded, Env | Label):
            return  # What it comes to is not known either.
        match expanded:
            case Env():
                _check_legacy(expanded, report)
                for name, value in expanded.pairs:
                    _check_secret("ENV", name, step.location, report)
                    state.environment[name] = value
            case Label():
                _check_legacy(expanded, report)
            case Workdir():
                if not state.workdir and not expanded.path.startswith("/"):
                    message = (
                        f"Relative workdir {quote(expanded.path)} can have unexpected results if the base image changes"
                    )
                    report.add("WorkdirRelativePath", message, step.location)
                state.workdir = True
            case Shell():
                state.shell = True
            case Cmd() | Entrypoint():
                _check_once(state, expanded, report)
                if expanded.command.shell and not state.shell:
                    message = f"JSON arguments recommended for {keyword_of(step)} to prevent unintended behavior related to OS signals"
                    report.add("JSONArgsRecommended", message, step.location)
            case Healthcheck():
                _check_once(state, expanded, report)
            case Expose():
                _check_ports(expanded, report)
            case Copy() if not expanded.from_:
                self._check_copied(expanded, report)

    def _check_arg(self, state: _State, step: Arg, report: Report) -> None:
        for name, default in step.pairs:
            _check_secret("ARG", name, step.location, report)
            value = self._build_args.get(name)
            if value is None and default is not None:
                expander = self._expander(state.environment)
                try:
                    value = expander.text(default)
                finally:
                    self._check_unset(state, expander, step, report)
            elif value is None:
                value = self._globals.get(name)
            if value is not None and name not in predefined.WITHOUT_ENVIRONMENT:
                state.environment[name] = value
            state.arguments.add(name)

    def _check_unset(self, state: _State, expander: Expander, step: Instruction, report: Report) -> None:
        if not state.known:
            return
        for name in sorted(expander.unset - state.arguments - predefined.WITHOUT_ENVIRONMENT):
            meant = self._meant(name, state.environment)
            hint = f" (did you mean ${meant}?)" if meant else ""
            report.add("UndefinedVar", f"Usage of undefined variable '${name}'{hint}", step.location)

    def _check_copied(self, step: Copy, report: Report) -> None:
        """Whether sources are left out of the context; not where patterns take files back, for then it is hard to say."""
        ignore = self._ignore
        if ignore is None or ignore.exclusions:
            return
        verb = "Add" if step.keyword == "ADD" else "Copy"
        for source in step.sources:
            if source.startswith(_ELSEWHERE):
                continue
            path = clean(source)
            whole = path in (".", "/")
            if not _ALL.isdisjoint(ignore.patterns) if whole else ignore.matches(path):
                message = f"Attempting to {verb} file {quote(path)} that is excluded by .dockerignore"
                report.add("CopyIgnoredFile", message, step.location)


def _sources(instruction: Instruction) -> Iterable[str]:
    if isinstance(instruction, Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, Run):
        return [mount.from_ for mount in instruction.mounts if mount.from_]
    return []


def _check_once(state: _State, step: Instruction, report: Report) -> None:
    before = state.once.get(type(step))
    if before:
        message = f"Multiple {keyword_of(step)} instructions should not be used in the same stage because only the last one will be used"
        report.add("MultipleInstructionsDisallowed", message, before)
    state.once[type(step)] = step.location


def _check_legacy(step: Env | Label, report: Report) -> None:
    if step.legacy:
        keyword = keyword_of(step)
        message = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
        report.add("LegacyKeyValueFormat", message, step.location)


def _check_secret(keyword: str, name: str, location: Location, report: Report) -> None:
    if _SECRET.search(name) and not _NO_SECRET.search(name):
        message = f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quote(name)})"
        report.add("SecretsUsedInArgOrEnv", message, location)


def _check_ports(step: Expose, report: Report) -> None:
    """Raises ``DockerfileError``."""
    for text in step.ports:
        port = ports.exposed(text)
        if port.protocol != port.protocol.lower():
            message = f"Defined protocol '{text}' in EXPOSE instruction should be lowercase"
            report.add("ExposeProtoCasing", message, step.location)
        if port.published:
            message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
            report.add("ExposeInvalidFormat", message, step.location)
