"""Answers to questions about a Dockerfile that are no builds (``docker build --call``, ``--check``)."""

from __future__ import annotations

from collections.abc import Mapping

from coved.build.errors import BadDockerfile
from coved.build.request import Checked, Request, Result
from coved.build.stages import outlining
from coved.build.stages.bases import Bases
from coved.build.stages.config import environment
from coved.build.stages.definition import Definition, located
from coved.build.stages.plan import PlannedStage, plan
from coved.dockerfile.instructions import DockerfileError
from coved.dockerfile.outline import targets
from coved.errors import EngineError
from coved.images.documents import Platform


def answer(definition: Definition, request: Request, filename: str, platform: Platform, bases: Bases) -> Result:
    """Raises BuildError, and BadDockerfile that says where."""
    if request.question == "targets":
        return Result(answer=targets(definition.dockerfile))
    if request.question == "check":
        return Result(answer=_checked(definition, request, filename, platform))
    if definition.violated:
        raise BadDockerfile(definition.violated)

    def environment_of(planned: PlannedStage) -> Mapping[str, str]:
        """What is not here is not pulled to be asked."""
        try:
            image = bases.local(planned.image)
        except EngineError:
            return {}
        return environment(image.config.get("config") or {})

    given = {name: value for name, value in request.build_args.items() if value is not None}
    try:
        planned = plan(definition.dockerfile, request, platform)
        found = outlining.outline(planned, given, environment_of)
    except DockerfileError as error:
        raise located(error, filename, definition.dockerfile.text) from None
    return Result(warnings=definition.warnings, answer=found)


def refusal(error: BadDockerfile) -> Result:
    """What the checks say of a Dockerfile that cannot be read."""
    return Result(answer=Checked(error.filename, error.text, error.warnings, str(error), error.location))


def _checked(definition: Definition, request: Request, filename: str, platform: Platform) -> Checked:
    """What the checks have found, and what would be wrong with the whole."""
    text = definition.dockerfile.text
    try:
        plan(definition.dockerfile, request, platform)
    except (DockerfileError, BadDockerfile) as error:
        return Checked(filename, text, definition.warnings, str(error), error.location)
    return Checked(filename, text, definition.warnings)
