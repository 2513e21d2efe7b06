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


async def laid(dockerfile: i.Dockerfile, request: Request, platform: Platform, find: Find) -> Plan:
    """Raises BuildError, DockerfileError."""
    triggers: dict[int, list[i.Instruction]] = {}
    while True:
        planned = plan(dockerfile, request, platform, triggers)
        new = [one for one in planned.stages if one.is_on_image and one.index not in triggers]
        if not new:
            return planned
        images = await asyncio.gather(*(_found(find, one) for one in new))
        for one, image in zip(new, images, strict=True):
            triggers[one.index] = [] if image is None or one.replaced else _triggers(image, one, dockerfile)


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
