"""The plan of a build once it is known what its base images want to be done (ONBUILD): that may need further stages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from coved.build.errors import BuildError
from coved.build.request import Request
from coved.build.stages.plan import Plan, PlannedStage, plan
from coved.dockerfile import instructions as i
from coved.dockerfile.parser import parse_instruction
from coved.images import Image
from coved.images.documents import Platform

Find = Callable[[PlannedStage], Awaitable[Image | None]]
"""The image that a stage is based on; None when that is none."""


async def laid(planned: Plan, request: Request, platform: Platform, find: Find) -> Plan:
    """``planned`` knows of no triggers. Raises BuildError, DockerfileError."""
    triggers: dict[int, list[i.Instruction]] = {}
    while new := [one for one in planned.stages if one.is_on_image and one.index not in triggers]:
        images = await asyncio.gather(*(_found(find, one) for one in new))
        for one, image in zip(new, images, strict=True):
            wanted = [] if image is None or one.replaced else _triggers(image, one, planned.dockerfile)
            triggers[one.index] = wanted
        if any(triggers[one.index] for one in new):
            planned = plan(planned.dockerfile, request, platform, triggers)
    return planned


async def _found(find: Find, planned: PlannedStage) -> Image | None:
    try:
        return await find(planned)
    except BuildError as error:
        error.location = error.location or planned.stage.base.location
        raise


def _triggers(image: Image, planned: PlannedStage, dockerfile: i.Dockerfile) -> list[i.Instruction]:
    texts = (image.config.get("config") or {}).get("OnBuild") or ()
    try:
        return [parse_instruction(text, dockerfile.escape) for text in texts]
    except i.DockerfileError as error:
        raise i.DockerfileError(f"{error} (ONBUILD of {planned.image})", planned.stage.base.location) from None
