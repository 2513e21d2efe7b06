"""The build checks (docs.docker.com/reference/build-checks): their descriptions, and which of them are to be reported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from coved.dockerfile import numbers
from coved.dockerfile.directives import comment_directive
from coved.dockerfile.instructions import DockerfileError, Instruction, Location, Warning

_DESCRIPTIONS = {
    "StageNameCasing": "Stage names should be lowercase",
    "FromAsCasing": "The 'as' keyword should match the case of the 'from' keyword",
    "NoEmptyContinuation": "Empty continuation lines will become errors in a future release",
    "ConsistentInstructionCasing": (
        "All commands within the Dockerfile should use the same casing (either upper or lower)"
    ),
    "DuplicateStageName": "Stage names should be unique",
    "ReservedStageName": "Reserved words should not be used as stage names",
    "JSONArgsRecommended": (
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
    ),
    "MaintainerDeprecated": "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    "UndefinedArgInFrom": "FROM command must use declared ARGs",
    "WorkdirRelativePath": (
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base "
        "image changes"
    ),
    "UndefinedVar": "Variables should be defined before their use",
    "MultipleInstructionsDisallowed": "Multiple instructions of the same type should not be used in the same stage",
    "LegacyKeyValueFormat": "Legacy key/value format with whitespace separator should not be used",
    "InvalidBaseImagePlatform": "Base image platform does not match expected target platform",
    "RedundantTargetPlatform": (
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
    ),
    "SecretsUsedInArgOrEnv": "Sensitive data should not be used in the ARG or ENV commands",
    "InvalidDefaultArgInFrom": "Default value for global ARG results in an empty or invalid base image name",
    "FromPlatformFlagConstDisallowed": "FROM --platform flag should not use a constant value",
    "CopyIgnoredFile": "Attempting to Copy file that is excluded by .dockerignore",
    "InvalidDefinitionDescription": (
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
        "intended to be a description comment, add an empty line or comment between the instruction and the comment."
    ),
    "ExposeProtoCasing": "Protocol in EXPOSE instruction should be lowercase",
    "ExposeInvalidFormat": (
        "IP address and host-port mapping should not be used in EXPOSE instruction. "
        "This will become an error in a future release"
    ),
}
_EXPERIMENTAL = frozenset({"InvalidDefinitionDescription"})
_WITHOUT_PAGE = frozenset({"InvalidBaseImagePlatform"})
_WORD_START = re.compile("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _warning(rule: str, message: str, location: Location) -> Warning:
    page = _WORD_START.sub("-", rule).lower()
    url = "" if rule in _WITHOUT_PAGE else f"https://docs.docker.com/go/dockerfile/rule/{page}/"
    return Warning(rule=rule, description=_DESCRIPTIONS[rule], url=url, message=message, location=location)


@dataclass(frozen=True)
class Options:
    """Which rules are not reported, which experimental ones are, and whether a report makes the build fail."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> Options:
        """``skip=A,B;error=true``, as the directive ``check`` has it and the build argument BUILDKIT_DOCKERFILE_CHECK.

        Raises ``DockerfileError``.
        """
        options = cls()
        text = text.strip()
        for part in text.split(";", 2) if text else ():
            name, equals, value = part.partition("=")
            if not equals:
                raise DockerfileError(f'invalid check option "{part}"')
            options = options._with(name.strip(), value.strip(), part)
        return options

    def _with(self, name: str, value: str, part: str) -> Options:
        rules = frozenset(rule.strip() for rule in value.split(","))
        match name:
            case "skip":
                return replace(self, skip_all=True) if value == "all" else replace(self, skip=rules)
            case "experimental":
                return replace(self, experimental_all=True) if value == "all" else replace(self, experimental=rules)
            case "error":
                error = numbers.truth(value)
                if error is None:
                    why = f'strconv.ParseBool: parsing "{value}": invalid syntax'
                    raise DockerfileError(f'failed to parse check option "{part}": {why}')
                return replace(self, error=error)
            case _:
                raise DockerfileError(f'invalid check option "{name}"')

    def merged(self, comments: Iterable[str]) -> Options:
        """For an instruction that has ``# check=skip=...`` among the comments above it."""
        for comment in comments:
            value = comment_directive(comment, "check")
            if value is None:
                continue
            try:
                other = Options.parse(value.partition(" ")[0])
            except DockerfileError:
                return self
            return Options(
                skip=self.skip | other.skip,
                skip_all=self.skip_all or other.skip_all,
                experimental=self.experimental | other.experimental,
                experimental_all=self.experimental_all or other.experimental_all,
                error=self.error,
            )
        return self

    def reports(self, rule: str) -> bool:
        if rule in _EXPERIMENTAL:
            return self.experimental_all or rule in self.experimental
        return not self.skip_all and rule not in self.skip


@dataclass
class Report:
    """The warnings so far."""

    options: Options
    warnings: list[Warning] = field(default_factory=list)

    def add(self, rule: str, message: str, location: Location) -> None:
        if self.options.reports(rule):
            self.warnings.append(_warning(rule, message, location))

    def above(self, instruction: Instruction) -> Report:
        """For one instruction, with the comments above it."""
        if not instruction.comments:
            return self
        return Report(self.options.merged(instruction.comments), self.warnings)


def keyword_of(instruction: Instruction) -> str:
    """As it is written."""
    return instruction.source.split(maxsplit=1)[0]
