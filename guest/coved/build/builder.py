"""Builds: from a request and its client to an image, and the cache that they leave."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

from coved.build.cache import inline_cache
from coved.build.cache.contexts import Contexts
from coved.build.cache.snapshots import Snapshots
from coved.build.cache.steps import Step, Steps
from coved.build.client import Client
from coved.build.errors import BadDockerfile
from coved.build.files.copier import Copier
from coved.build.files.incoming import Incoming
from coved.build.progress import Progress
from coved.build.remote.sources import Remote, Stores
from coved.build.request import Request, Result
from coved.build.run.execution import Executor
from coved.build.stages import epoch, stage
from coved.build.stages.bases import Bases
from coved.build.stages.definition import Definitions, located
from coved.build.stages.exporting import Built, Exporter
from coved.build.stages.inputs import Inputs
from coved.build.stages.job import Job
from coved.build.stages.plan import plan
from coved.build.upkeep import Upkeep
from coved.build.vertices import Vertices
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.dockerfile.instructions import DockerfileError
from coved.errors import EngineError
from coved.images import Images, platforms
from coved.images.documents import Platform
from coved.networks import Networks
from coved.registry import Registries
from coved.runtime.spawner_client import SpawnerClient
from coved.store.database import Database


class Builder:
    """Belongs to the event loop. ``root`` is the engine's; ``build/`` in it is the builder's own."""

    def __init__(
        self, database: Database, images: Images, registries: Registries, networks: Networks, spawner: SpawnerClient,
        snapshots: Snapshots, steps: Steps, root: Path, proxies_and_certificates: ProxiesAndCertificates,
    ) -> None:  # fmt: skip
        self._images = images
        self._registries = registries
        self._stores = Stores(registries, root / "build")
        self.snapshots = snapshots
        self.steps = steps
        self.incoming = Incoming(self.snapshots)
        self._copier = Copier(self.snapshots, root / "build" / "hashes")
        self._proxies_and_certificates = proxies_and_certificates
        self._executor = Executor(database, self.snapshots, networks, spawner, proxies_and_certificates)
        self._exporter = Exporter(images, self.snapshots, self._copier)
        self._definitions = Definitions()
        self._beginning, self._begun = asyncio.Lock(), False
        self.contexts = Contexts(root / "build" / "contexts")
        self.upkeep = Upkeep(self.steps, self.snapshots, self._executor, self.contexts, self._stores)

    async def _begin(self) -> None:
        """Once, before the first build."""
        async with self._beginning:
            if not self._begun:
                await self._executor.start()
                self._begun = True

    async def close(self) -> None:
        """Waits for what goes on in the background."""
        await self.upkeep.close()
        self.steps.note_uses()
        await self._executor.close()
        await self._stores.close()
        self._copier.close()
        await self.contexts.close()

    async def build(self, request: Request, client: Client, progress: Progress) -> Result:
        """Carries out a build, and sends its results where the request wants them.

        Raises BuildError, EngineError. A caller that is cancelled leaves nothing but the results of whole steps.
        """
        await self._begin()
        request = replace(request, proxies=self._proxies_and_certificates.proxies(request.build_args))
        vertices = Vertices(progress)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.upkeep.bound)
            hold = stack.enter_context(self.steps.holding())
            remote = Remote(self._stores, client, stack)
            inputs = Inputs(request, client, vertices, remote, self.incoming, stack)
            stack.push_async_callback(inputs.close)
            bases = Bases(self._images, self._registries, client, vertices, request.pull)
            stack.push_async_callback(bases.close)
            text = await inputs.dockerfile()
            try:
                definition = await self._definitions.read(text, request, inputs.filename)
            except BadDockerfile as error:
                if request.question == "check":
                    from coved.build.stages.answering import refusal  # few builds are questions

                    return refusal(error)
                for warning in error.warnings:
                    progress.warning(inputs.definition, warning)
                raise
            dockerfile, warnings = definition.dockerfile, definition.warnings
            if request.question:
                from coved.build.stages.answering import answer

                platform = _platform(next(iter(request.platforms), ""))
                return answer(definition, request, inputs.filename, platform, bases)
            for warning in warnings:
                progress.warning(inputs.definition, warning)
            if definition.violated:
                raise BadDockerfile(definition.violated)
            request, imported = await self._with_caches(request, bases)
            built = []
            for wanted in request.platforms or ("",):
                platform = _platform(wanted)
                try:
                    job = Job(
                        request, plan(dockerfile, request, platform), platform, client, progress, vertices, inputs,
                        bases, self.snapshots, self.steps, remote, hold, self._executor, self._copier,
                        stage.build, imported,
                    )  # fmt: skip
                    await job.lay()
                except DockerfileError as error:
                    raise located(error, inputs.filename, dockerfile.text) from None
                # The builder of before BuildKit knows nothing of it.
                created = "" if request.in_order else epoch.asked_for(request.build_args, job.plan.args)
                built.append(Built(await job.run(), platform, created))
                self.steps.used(job.used)
            result = Result(warnings=warnings)
            for output in request.outputs:
                if output.kind in ("local", "tar"):
                    await self._exporter.files(built, output, vertices, client)
                elif output.kind in ("oci", "docker"):
                    await self._exporter.archive(built, output, request, vertices, client)
                elif output.kind == "image":
                    image, names = await self._exporter.image(built, output, request, vertices)
                    result = Result(image.id, names, warnings)
        return result

    async def _with_caches(self, request: Request, bases: Bases) -> tuple[Request, dict[str, Step]]:
        """With the steps that images tell of which have made them (``--cache-from``)."""
        imported: dict[str, Step] = {}
        found = False
        for one in request.cache_from:
            here = one.get("type") == "local-image"
            try:
                image = bases.local(one.get("ref", "")) if here else await bases.find(one.get("ref", ""), _platform(""))
            except EngineError:
                continue  # a cache that cannot be had is none
            imported |= inline_cache.steps_of(image)
            found = True
        # The classic builder then takes nothing but what these images have.
        unknown = request.in_order and request.cache_from and not found
        return (replace(request, no_cache=True) if unknown else request), imported


def _platform(text: str) -> Platform:
    if not text:
        return Platform("linux", platforms.architecture())
    asked = platforms.asked(text)
    return Platform(asked.os or "linux", asked.architecture or platforms.architecture(), asked.variant)
