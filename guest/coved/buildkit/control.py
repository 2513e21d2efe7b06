"""moby.buildkit.v1.Control: builds as a whole, and the build cache."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from coved.build.cache import filters
from coved.build.upkeep import Entry as CacheEntry
from coved.build.upkeep import Keep, Upkeep
from coved.buildkit import records
from coved.buildkit.builds import Build, Builds
from coved.buildkit.errors import to_grpc
from coved.buildkit.history import Entry, History
from coved.buildkit.messages import (
    DISK_USAGE,
    EXPORT_TRACE,
    HISTORY_COMPLETE,
    HISTORY_STARTED,
    INFO,
    LIST_WORKERS,
    LISTEN_BUILD_HISTORY,
    PRUNE,
    SOLVE,
    STATUS,
    UPDATE_BUILD_HISTORY,
    BuildHistoryEvent,
    BuildHistoryRequest,
    DiskUsageRequest,
    DiskUsageResponse,
    ExportTraceRequest,
    ExportTraceResponse,
    InfoRequest,
    InfoResponse,
    ListWorkersRequest,
    ListWorkersResponse,
    PruneRequest,
    SolveRequest,
    SolveResponse,
    StatusRequest,
    StatusResponse,
    UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse,
    UsageRecord,
    WorkerRecord,
)
from coved.grpc.call import Call
from coved.grpc.server import Services
from coved.grpc.status import GrpcError
from coved.times import rfc3339


class Control:
    def __init__(self, builds: Builds, history: History, upkeep: Upkeep, worker: Callable[[], WorkerRecord]) -> None:
        self._builds = builds
        self._history = history
        self._upkeep = upkeep
        self._worker = worker

    def register(self, services: Services) -> None:
        services.unary(LIST_WORKERS, self._list_workers)
        services.unary(INFO, self._info)
        services.unary(SOLVE, self._solve)
        services.stream(STATUS, self._status)
        services.unary(DISK_USAGE, self._disk_usage)
        services.stream(PRUNE, self._prune)
        services.stream(LISTEN_BUILD_HISTORY, self._listen)
        services.unary(UPDATE_BUILD_HISTORY, self._update_history)
        services.unary(EXPORT_TRACE, self._trace)

    async def _list_workers(
        self, request: ListWorkersRequest, call: Call[ListWorkersRequest, ListWorkersResponse]
    ) -> ListWorkersResponse:
        return ListWorkersResponse([self._worker()])

    async def _info(self, request: InfoRequest, call: Call[InfoRequest, InfoResponse]) -> InfoResponse:
        return InfoResponse(self._worker().buildkit_version)

    # -- builds

    async def _solve(self, request: SolveRequest, call: Call[SolveRequest, SolveResponse]) -> SolveResponse:
        build = await self._builds.begin(request)
        failure: BaseException | None = None
        try:
            if request.frontend:
                await build.run(request.frontend, request.frontend_attrs, request.frontend_inputs)
            else:
                await self._returned(build)
            return SolveResponse(build.responses())
        except BaseException as error:
            failure = error
            raise
        finally:
            await self._builds.end(build, failure)

    async def _returned(self, build: Build) -> None:
        """The client carries the build on by calls of ``Gateway``, and says in the end how it went. Raises what went wrong."""
        returned = await build.returned
        if returned.error is not None:
            # What is known here says more than what the client makes of it.
            known = to_grpc(build.error) if build.error is not None else None
            raise known or GrpcError(returned.error.code, returned.error.message, returned.error.details)

    async def _status(self, call: Call[StatusRequest, StatusResponse]) -> None:
        ref = (await call.one()).ref
        entry = None
        if ref not in self._builds:
            with contextlib.suppress(OSError):  # clients ask before each build: one that cannot be found is not known
                entry = await self._history.find(ref)
        told = self._history.follow(entry) if entry is not None else (await self._builds.get(ref)).log.follow()
        async for message in told:
            await call.send(message)

    # -- the cache

    async def _disk_usage(
        self, request: DiskUsageRequest, call: Call[DiskUsageRequest, DiskUsageResponse]
    ) -> DiskUsageResponse:
        found = await self._upkeep.entries(filters.parse(request.filter))
        return DiskUsageResponse([_record(each) for each in found])

    async def _prune(self, call: Call[PruneRequest, UsageRecord]) -> None:
        request = await call.one()
        gone = await self._upkeep.prune(
            everything=request.all,
            unused_for_s=request.keep_duration / 1e9,
            keep=Keep(request.reserved_space, request.max_used_space, request.min_free_space),
            filters=filters.parse(request.filter),
        )
        for entry in gone:
            await call.send(_record(entry))

    # -- what was built

    async def _listen(self, call: Call[BuildHistoryRequest, BuildHistoryEvent]) -> None:
        request = await call.one()
        call.begin([("buildkit-current-timestamp", rfc3339(time.time_ns()))])

        def wanted(entry: Entry) -> bool:
            ended = bool(entry.record.completed_at)
            return request.ref in ("", entry.record.ref) and not (request.active_only and ended)

        async def tell(kind: int, entry: Entry) -> None:
            await call.send(BuildHistoryEvent(kind, records.as_clients_have_it(entry.record)[0]))

        with self._history.listening() as events:
            found = [each for each in await self._history.entries() if wanted(each)]
            if request.limit > 0 and not request.filter:  # what is filtered, clients look at themselves
                found = found[: request.limit]
            for entry in reversed(found):
                await tell(HISTORY_COMPLETE if entry.record.completed_at else HISTORY_STARTED, entry)
            if request.early_exit:
                return
            async for kind, entry in events:
                if request.ref in ("", entry.record.ref):
                    await tell(kind, entry)

    async def _update_history(
        self, request: UpdateBuildHistoryRequest, call: Call[UpdateBuildHistoryRequest, UpdateBuildHistoryResponse]
    ) -> UpdateBuildHistoryResponse:
        if request.delete:
            await self._history.remove(request.ref)
        elif not request.finalize:  # which asks for traces to be kept, and there are none
            await self._history.pin(request.ref, pinned=request.pinned)
        return UpdateBuildHistoryResponse()

    async def _trace(
        self, request: ExportTraceRequest, call: Call[ExportTraceRequest, ExportTraceResponse]
    ) -> ExportTraceResponse:
        return ExportTraceResponse()


def _record(entry: CacheEntry) -> UsageRecord:
    return UsageRecord(
        id=entry.id,
        mutable=entry.mutable,
        in_use=entry.in_use,
        size=entry.size,
        created_at=entry.created_ns,
        last_used_at=entry.used_ns,
        usage_count=entry.uses,
        description=entry.description,
        record_type=entry.kind,
        shared=entry.shared,
        parents=[*entry.parents],
    )
