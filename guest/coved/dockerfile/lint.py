"""``docker build --check``: what a Dockerfile says that it had better not (docs.docker.com/reference/build-checks)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from coved.dockerfile import predefined
from coved.dockerfile.directives import find
from coved.dockerfile.ignore import Matcher
from coved.dockerfile.instructions import Arg, Dockerfile, DockerfileError, From, Instruction, Maintainer, Warning
from coved.dockerfile.rules import Options, Report, keyword_of
from coved.dockerfile.stage_checks import BaseImage, StageChecks
from coved.dockerfile.text import quote

_RESERVED = ("context", "scratch")


def options_of(dockerfile: Dockerfile, text: str | None = None) -> Options:
    """How the Dockerfile wants to be checked; ``text``, the build argument BUILDKIT_DOCKERFILE_CHECK, goes before.

    Raises ``DockerfileError``.
    """
    if text is None:
        text = (find(dockerfile.text, "check") or "").partition(" ")[0]
    try:
        return Options.parse(text)
    except DockerfileError as error:
        raise DockerfileError(f"failed to parse check options: {error}") from None


def violation(warnings: Iterable[Warning], options: Options) -> str:
    """Why a build fails that wants to with warnings; "" when it goes on."""
    rules = dict.fromkeys(found.rule for found in warnings)
    return f"lint violation found for rules: {', '.join(rules)}" if rules and options.error else ""


def check(
    dockerfile: Dockerfile,
    *,
    options: Options | None = None,
    build_args: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    target: str = "",
    ignore: Matcher | None = None,
    images: Mapping[str, BaseImage] | None = None,
) -> list[Warning]:
    """The warnings for a build of the stage ``target``, in the order BuildKit finds them.

    ``arguments`` are the predefined ones, ``images`` what is known of base images by their expanded names; of a stage on
    another image it cannot be said which of its variables are undefined. Where an instruction cannot be expanded the checks
    of its stage end, for the build ends there.
    """
    if arguments is None:
        last = target or dockerfile.stages[-1].name
        arguments = predefined.arguments("linux/amd64", "linux/amd64", last, build_args)
    report = Report(options_of(dockerfile) if options is None else options)
    for found in dockerfile.warnings:
        report.add(found.rule, found.message, found.location)
    _check_lines(dockerfile, report)
    _check_stage_names(dockerfile, report)
    _check_casing(dockerfile, report)
    stages = StageChecks(dockerfile, report, build_args or {}, arguments, ignore, images or {})
    stages.run(target)
    return report.warnings


def check_read(dockerfile: Dockerfile, options: Options) -> list[Warning]:
    """The warnings that BuildKit finds as it reads: for what there is of a Dockerfile before an instruction that is none."""
    report = Report(options)
    for found in dockerfile.warnings:
        report.add(found.rule, found.message, found.location)
    _check_lines(dockerfile, report)
    return report.warnings


def _instructions(dockerfile: Dockerfile) -> Iterator[Instruction]:
    yield from dockerfile.meta_args
    for stage in dockerfile.stages:
        yield stage.base
        yield from stage.instructions


def _check_lines(dockerfile: Dockerfile, report: Report) -> None:
    for instruction in _instructions(dockerfile):
        here = report.above(instruction)
        match instruction:
            case Maintainer():
                message = "Maintainer instruction is deprecated in favor of using label"
                here.add("MaintainerDeprecated", message, instruction.location)
            case From() if instruction.name:
                _check_as(instruction, here)
                _check_description("FROM", [instruction.name], instruction, here)
            case Arg():
                _check_description("ARG", [name for name, _ in instruction.pairs], instruction, here)


def _check_as(base: From, report: Report) -> None:
    *_, as_, name = base.source.split()
    keyword = keyword_of(base)
    if name != name.lower():
        report.add("StageNameCasing", f"Stage name '{name}' should be lowercase", base.location)
    wanted = {keyword.lower(): as_.lower(), keyword.upper(): as_.upper()}
    if wanted.get(keyword, as_) != as_:
        report.add("FromAsCasing", f"'{as_}' and '{keyword}' keywords' casing do not match", base.location)


def _check_description(keyword: str, names: Collection[str], instruction: Instruction, report: Report) -> None:
    if not instruction.comments or instruction.comments[-1].split(" ")[0] in names:
        return
    example = "<arg_key>" if len(names) > 1 else next(iter(names))
    message = f"Comment for {keyword} should follow the format: `# {example} <description>`"
    report.add("InvalidDefinitionDescription", message, instruction.location)


def _check_stage_names(dockerfile: Dockerfile, report: Report) -> None:
    known: set[str] = set()
    for stage in dockerfile.stages:
        name = stage.name
        if name in _RESERVED:
            message = f"Stage name should not use the same name as reserved stage {quote(name)}"
            report.add("ReservedStageName", message, stage.base.location)
        if name in known:
            message = f"Duplicate stage name {quote(name)}, stage names should be unique"
            report.add("DuplicateStageName", message, stage.base.location)
        if name:
            known.add(name)


def _check_casing(dockerfile: Dockerfile, report: Report) -> None:
    keywords = [
        (keyword_of(instruction), instruction.location)
        for stage in dockerfile.stages
        for instruction in (stage.base, *stage.instructions)
    ]
    lower = sum(keyword == keyword.lower() for keyword, _ in keywords)
    upper = sum(keyword == keyword.upper() for keyword, _ in keywords)
    majority = "lowercase" if lower > upper else "uppercase"
    for keyword, location in keywords:
        if keyword != (keyword.lower() if lower > upper else keyword.upper()):
            message = f"Command '{keyword}' should match the case of the command majority ({majority})"
            report.add("ConsistentInstructionCasing", message, location)
