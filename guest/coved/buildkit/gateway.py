"""moby.buildkit.v1.frontend.LLBBridge: the client's own half of a build, which asks for the Dockerfile to be built and hands the result
back. There is no LLB here: a result is a name, and a graph that says no more than which image it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from coved.build.request import Result as Built
from coved.buildkit.builds import Build, Builds
from coved.buildkit.linking import definition
from coved.buildkit.messages import (
    EVALUATE,
    FRONTEND_SOLVE,
    PING,
    RETURN,
    APICap,
    EvaluateRequest,
    EvaluateResponse,
    FrontendSolveRequest,
    FrontendSolveResponse,
    PingRequest,
    PongResponse,
    Ref,
    Result,
    ReturnRequest,
    ReturnResponse,
    WorkerRecord,
)
from coved.grpc.call import Call
from coved.grpc.server import Services
from coved.grpc.status import Code, GrpcError

_BUILD_ID = "buildkit-controlapi-buildid"
_CAPABILITIES = ("solve.base", "return", "reference.output", "frontend.inputs", "gateway.evaluate")


class Gateway:
    def __init__(self, builds: Builds, worker: Callable[[], WorkerRecord]) -> None:
        self._builds = builds
        self._worker = worker

    def register(self, services: Services) -> None:
        services.unary(PING, self._ping)
        services.unary(FRONTEND_SOLVE, self._solve)
        services.unary(EVALUATE, self._evaluate)
        services.unary(RETURN, self._return)

    async def _build(self, call: Call[FrontendSolveRequest, FrontendSolveResponse] | object) -> Build:
        assert isinstance(call, Call)
        ref = dict(call.metadata).get(_BUILD_ID, "")
        if not ref:
            raise GrpcError(Code.INVALID_ARGUMENT, "no buildid found in context")
        return await self._builds.get(ref)

    async def _ping(self, request: PingRequest, call: Call[PingRequest, PongResponse]) -> PongResponse:
        await self._build(call)
        capabilities = [APICap(id=each, enabled=True) for each in _CAPABILITIES]
        return PongResponse(frontend_api_caps=capabilities, workers=[self._worker()])

    async def _solve(
        self, request: FrontendSolveRequest, call: Call[FrontendSolveRequest, FrontendSolveResponse]
    ) -> FrontendSolveResponse:
        build = await self._build(call)
        if request.definition is not None and request.definition.def_:
            raise GrpcError(Code.UNKNOWN, "this engine builds Dockerfiles, and no LLB")
        built = await build.run(request.frontend, request.frontend_opt, request.frontend_inputs)
        result = Result(ref=Ref(build.solve.ref, definition(built.image_id)))
        if request.frontend_opt.get("requestid"):
            result.metadata = _lint(built)
        return FrontendSolveResponse(result=result)

    async def _evaluate(
        self, request: EvaluateRequest, call: Call[EvaluateRequest, EvaluateResponse]
    ) -> EvaluateResponse:
        """A result is there as soon as it has a name."""
        build = await self._build(call)
        if request.ref != build.solve.ref:
            raise GrpcError(Code.UNKNOWN, f"no such ref: {request.ref}")
        return EvaluateResponse()

    async def _return(self, request: ReturnRequest, call: Call[ReturnRequest, ReturnResponse]) -> ReturnResponse:
        build = await self._build(call)
        if not build.returned.done():
            build.returned.set_result(request)
        return ReturnResponse()


def _lint(built: Built) -> dict[str, bytes]:
    """What ``frontend.lint`` answers (moby/buildkit, frontend/subrequests/lint)."""
    warnings = built.warnings
    document = {
        "warnings": [
            {
                "ruleName": each.rule,
                "description": each.description,
                "url": each.url,
                "detail": each.message,
                "location": {"ranges": [{"start": {"line": each.location.first}, "end": {"line": each.location.last}}]},
            }
            for each in warnings
        ],
        # All are about the one Dockerfile, which is number 0: what is the default is left out.
        "sources": [
            {
                "filename": each.filename,
                "data": base64.b64encode(each.text.encode("utf-8", "replace")).decode("ascii"),
                "language": "Dockerfile",
            }
            for each in warnings[:1]
        ],
    }
    text = "".join(f"\n{each.message}\n{each.description}\n{each.url}\n" for each in warnings)
    return {
        "result.json": json.dumps(document).encode(),
        "result.txt": text.encode(),
        "result.statuscode": b"1" if warnings else b"0",
        "version": b"1.0",
    }
