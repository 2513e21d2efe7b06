"""A Dockerfile's text made instructions (docs.docker.com/reference/dockerfile), with BuildKit's words for what is wrong."""

from __future__ import annotations

from collections.abc import Collection

from coved.dockerfile import readers, words
from coved.dockerfile.instructions import Arg, Copy, Dockerfile, DockerfileError, From, Instruction, Location, Stage
from coved.dockerfile.lines import Line, Reader

INSTRUCTIONS_MAX = 10_000
"""In a file. Each costs as much as there were before it, for configurations and histories are copied."""


def parse(data: bytes) -> Dockerfile:
    """Raises ``DockerfileError``. Bytes that are no UTF-8 become U+FFFD."""
    if not data:
        raise DockerfileError("the Dockerfile cannot be empty")
    text = data.decode("utf-8", "replace")
    reader = Reader(text)
    lines = _lines(reader)
    meta_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []

    def understood() -> Dockerfile:
        return Dockerfile(
            text=text,
            escape=reader.escape,
            meta_args=tuple(meta_args),
            stages=tuple(Stage(base, tuple(instructions)) for base, instructions in stages),
            directives=dict(reader.directives),
            warnings=tuple(reader.warnings),
        )

    try:
        for line in lines:
            instruction = _instruction(line, reader.escape)
            if isinstance(instruction, From):
                stages.append((instruction, []))
            elif stages:
                stages[-1][1].append(instruction)
            elif isinstance(instruction, Arg):
                meta_args.append(instruction)
            else:
                raise DockerfileError("no build stage in current context", instruction.location)
        for _, instructions in stages:
            for instruction in instructions:
                _check_from(instruction, reader.escape)
        if not stages:
            raise DockerfileError("dockerfile contains no stages to build")
    except DockerfileError as error:
        error.read = understood()
        raise
    return understood()


def parse_instruction(text: str, escape: str = "\\") -> Instruction:
    """The one instruction of an ONBUILD trigger; raises ``DockerfileError``.

    Its location is within the text.
    """
    reader = Reader(text, escape)
    lines = _lines(reader)
    if len(lines) != 1:
        raise DockerfileError("onbuild trigger should be a single expression", lines[1].location)
    try:
        instruction = readers.instruction(lines[0], reader.escape)
    except DockerfileError as error:
        raise DockerfileError(str(error), lines[0].location) from None
    _check_from(instruction, reader.escape)
    return instruction


def parse_changes(text: str, allowed: Collection[str]) -> list[Instruction]:
    """The instructions of ``--change``, which have no FROM; raises ``DockerfileError`` for keywords that are not allowed."""
    reader = Reader(text)
    lines = _lines(reader)
    for line in lines:
        if line.keyword.upper() not in allowed:
            raise DockerfileError(f"{line.keyword} is not a valid change command", line.location)
    return [readers.instruction(line, reader.escape) for line in lines]


def _lines(reader: Reader) -> list[Line]:
    """All of a file's, taken apart as far as it goes without knowing what the instructions mean."""
    lines: list[Line] = []
    for line in reader:
        try:
            readers.check_arguments(line.keyword, line.rest, reader.escape)
        except DockerfileError as error:
            raise DockerfileError(str(error), line.location) from None
        lines.append(line)
        if len(lines) > INSTRUCTIONS_MAX:
            raise DockerfileError(f"dockerfile has more than {INSTRUCTIONS_MAX} instructions", line.location)
    if not lines:
        raise DockerfileError("file with no instructions", Location(1, 1))
    return lines


def _instruction(line: Line, escape: str) -> Instruction:
    try:
        return readers.instruction(line, escape)
    except DockerfileError as error:
        message = f"dockerfile parse error on line {line.location.first}: {error}"
        raise DockerfileError(message, line.location) from None


def _check_from(instruction: Instruction, escape: str) -> None:
    """Raises ``DockerfileError`` where COPY's source would depend on a variable: stages are put in order without any."""
    if isinstance(instruction, Copy) and instruction.from_:
        try:
            as_it_is = words.process(instruction.from_, {}, words.Style(escape=escape)).text == instruction.from_
        except DockerfileError as error:
            raise DockerfileError(str(error), instruction.location) from None
        if not as_it_is:
            raise DockerfileError(
                "variable expansion is not supported for --from, "
                "define a new stage with FROM using ARG from global scope as a workaround",
                instruction.location,
            )
