"""What was applied comes to run: told by the cluster as it happens, and when it does not, why."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cove.errors import CoveError
from cove.kube.deploy.applying import TEMPLATE
from cove.kube.deploy.cluster import AGAIN_S, GONE, Cluster, Object, Refused
from cove.kube.generate.manifests import APPLICATION, NAME
from cove.kube.shown import inset

FINAL = {"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"}
"""For what a container waits in vain."""
TOLD = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImagePull",
    "RunContainerError",
} | FINAL
FAILED_CREATE = "FailedCreate"
CRASHES = 5
"""So many ends of a container are none that another one's start would mend: without an order, the first may be."""
LOG_LINES = 10
_WATCHED = ("Deployment", "Job", "Pod")

Report = Callable[[str], None]


class Trouble(NamedTuple):
    about: str
    """A pod by its name, or a workload that can have none by kind and name."""
    reason: str
    text: str
    final: bool
    container: str = ""
    """Of the pod, where it has said something."""

    def __str__(self) -> str:
        return inset(f"{self.about}: {self.reason}" + (f": {self.text}" if self.text else ""))


class Rollout:
    """`objects` as they came back when they were applied. `wait` returns when all of them run."""

    def __init__(self, cluster: Cluster, application: str, objects: Sequence[Object], report: Report) -> None:
        self._cluster = cluster
        self._query = {"labelSelector": f"{APPLICATION}={application}"}
        self._report = report
        self._wanted = {(one["kind"], one["metadata"]["name"]): one for one in objects if one["kind"] in _WATCHED}
        self._now: dict[tuple[str, str], Object] = {}
        self._pods: dict[str, Object] = {}
        self._troubles: dict[tuple[str, str], Trouble] = {}
        self._events: queue.SimpleQueue[tuple[str, Object] | CoveError] = queue.SimpleQueue()
        self._ended = threading.Event()

    def wait(self, limit_s: float) -> list[str]:
        """The Jobs that have not ended yet. Raises `CoveError` with the reason when something does not come to run in time."""
        if not self._wanted:
            return []
        deadline = time.monotonic() + limit_s
        for kind in _WATCHED:
            # A watch ends with its time, and its thread with that: nobody has to wait for it.
            threading.Thread(target=self._follow, args=(kind, deadline), name=f"watch {kind}", daemon=True).start()
        try:
            return self._until(deadline)
        finally:
            self._ended.set()

    def _until(self, deadline: float) -> list[str]:
        while True:
            waiting = [key for key in self._wanted if not self._is_done(key)]
            if not waiting and len(self._now) >= len(self._wanted):
                return []
            try:
                found = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                running = [name for kind, name in waiting if kind == "Job" and self._runs(name)]
                if len(running) == len(waiting):
                    return running
                raise self._late(waiting) from None
            if isinstance(found, CoveError):
                raise found
            self._take(*found)

    def _follow(self, kind: str, deadline: float) -> None:
        try:
            while not self._ended.is_set() and (left := deadline - time.monotonic()) > 0:
                found = self._cluster.ask("get", self._cluster.path(kind), self._query)
                for item in found.get("items") or ():
                    self._events.put(("ADDED", {"kind": kind, **item}))
                try:
                    for event in self._cluster.watch(kind, self._query, found["metadata"]["resourceVersion"], left):
                        if self._ended.is_set():
                            return
                        self._events.put((event["type"], {"kind": kind, **event["object"]}))
                except Refused as refused:
                    if refused.status != GONE:
                        raise
                self._ended.wait(AGAIN_S)
        except CoveError as error:
            self._events.put(error)

    def _take(self, change: str, found: Object) -> None:
        kind, name = found["kind"], found["metadata"]["name"]
        if kind != "Pod":
            key = kind, name
            if key in self._wanted:
                before = key in self._now and self._is_done(key)
                self._now[key] = found
                if not before and self._is_done(key):
                    self._report(f"{kind} {name} {'has ended well' if kind == 'Job' else 'runs'}")
                self._check(found)
            return
        if change == "DELETED":
            self._pods.pop(name, None)
            return
        if self._is_of_now(found):
            self._pods[name] = found
            for trouble in _troubles(found):
                self._tell(trouble)

    def _is_of_now(self, pod: Object) -> bool:
        """Not of what was there before."""
        metadata = pod["metadata"]
        name = (metadata.get("labels") or {}).get(NAME, "")
        template = (metadata.get("annotations") or {}).get(TEMPLATE)
        return any(
            one["spec"]["template"]["metadata"]["annotations"][TEMPLATE] == template
            for (_, own), one in self._wanted.items()
            if own == name
        )

    def _tell(self, trouble: Trouble) -> None:
        key = trouble.about, trouble.reason
        if key not in self._troubles:
            self._report(str(trouble))
        self._troubles[key] = trouble
        if trouble.final:
            raise self._error(f"{trouble.about} does not come to run", [trouble])

    def _check(self, found: Object) -> None:
        kind, name = found["kind"], found["metadata"]["name"]
        # A quota, or a policy, which may change: told, and counted when the time is over.
        refused = _refused_pods(found) if kind == "Deployment" else None
        if refused is not None:
            self._tell(refused)
        else:
            self._troubles.pop((_about(kind, name), FAILED_CREATE), None)
        for condition in (found.get("status") or {}).get("conditions") or ():
            failed = kind == "Job" and condition["type"] == "Failed" and condition["status"] == "True"
            stuck = condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
            if failed or (kind == "Deployment" and stuck and _is_current(found)):
                told = inset(f"{kind} {name} has failed: {condition.get('message') or condition.get('reason') or ''}")
                raise self._error(told, self._those_of(kind, name))

    def _those_of(self, kind: str, name: str) -> list[Trouble]:
        pods = {pod: found for pod, found in self._pods.items() if found["metadata"]["labels"].get(NAME) == name}
        found = [trouble for trouble in self._troubles.values() if trouble.about in {*pods, _about(kind, name)}]
        ended = map(_end, pods.values())
        return found or [trouble for trouble in ended if trouble is not None]

    def _is_done(self, key: tuple[str, str]) -> bool:
        found = self._now.get(key)
        return found is not None and (_has_ended(found) if key[0] == "Job" else _is_rolled_out(found))

    def _runs(self, job: str) -> bool:
        return any(
            pod["metadata"]["labels"].get(NAME) == job and (pod.get("status") or {}).get("phase") == "Running"
            for pod in self._pods.values()
        )

    def _late(self, waiting: Sequence[tuple[str, str]]) -> CoveError:
        names = ", ".join(f"{kind} {name}" for kind, name in waiting)
        found = [
            trouble for kind, name in waiting for trouble in self._those_of(kind, name) or self._warned(kind, name)
        ]
        return self._error(f"{names} does not run within the time", found)

    def _warned(self, kind: str, name: str) -> list[Trouble]:
        """The cluster's last warning of a Job, whose status does not say that no pods are taken."""
        if kind != "Job":
            return []
        # Warnings are there for an hour, also those of a Job of that name that has been made anew since.
        identifier = self._wanted[kind, name]["metadata"]["uid"]
        query = {"fieldSelector": f"involvedObject.uid={identifier},type=Warning"}
        try:
            found = self._cluster.ask("get", self._cluster.path("Event"), query).get("items") or ()
        except Refused:
            return []  # not everybody may see them
        last = max(found, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), default=None)
        if last is None:
            return []
        return [Trouble(_about(kind, name), last.get("reason") or "", last.get("message") or "", False)]

    def _error(self, told: str, troubles: Sequence[Trouble]) -> CoveError:
        lines = [told, *map(str, troubles)]
        seen = set()
        for trouble in troubles:
            if trouble.container and trouble.about not in seen:
                seen.add(trouble.about)
                lines += self._last_lines(trouble)
        return CoveError(
            "\n".join(lines),
            f"it stays as it is; look at it: kubectl get pods --namespace {self._cluster.namespace}",
        )

    def _last_lines(self, trouble: Trouble) -> list[str]:
        for previous in (True, False):
            if lines := self._cluster.logs(trouble.about, trouble.container, lines=LOG_LINES, previous=previous):
                return [f"the last that {trouble.about} has said:", *(inset(f"  {line}") for line in lines)]
        return []


def _about(kind: str, name: str) -> str:
    return f"{kind} {name}"


def _refused_pods(deployment: Object) -> Trouble | None:
    """The cluster's word that it takes no pods of it."""
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True" and _is_current(deployment):
            about = _about("Deployment", deployment["metadata"]["name"])
            return Trouble(about, FAILED_CREATE, condition.get("message") or "", False)
    return None


def _is_current(found: Object) -> bool:
    """Whether what the status says is of the object as it is now."""
    return bool((found.get("status") or {}).get("observedGeneration", 0) >= found["metadata"].get("generation", 0))


def _is_rolled_out(found: Object) -> bool:
    """As kubectl's `rollout status` has it: all pods are new, and available."""
    status: dict[str, Any] = found.get("status") or {}
    wanted = found["spec"].get("replicas", 1)
    counts = [status.get(name) or 0 for name in ("updatedReplicas", "replicas", "availableReplicas")]
    return _is_current(found) and all(count == wanted for count in counts)


def _has_ended(found: Object) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)


def _troubles(pod: Object) -> list[Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    found = []
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            found.append(Trouble(name, "Unschedulable", condition.get("message") or "", False))
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason") or ""
        if reason in TOLD:
            crashed = reason == "CrashLoopBackOff"
            final = reason in FINAL or (crashed and container.get("restartCount", 0) >= CRASHES)
            text = waiting.get("message") or ""
            found.append(Trouble(name, reason, text, final, container["name"] if crashed else ""))
    return found


def _end(pod: Object) -> Trouble | None:
    """How its container has ended, that of a Job for instance."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if (ended := state.get("terminated")) and ended.get("exitCode"):
                reason, text = ended.get("reason") or "Error", f"exit status {ended['exitCode']}"
                return Trouble(pod["metadata"]["name"], reason, text, False, container["name"])
    return None
