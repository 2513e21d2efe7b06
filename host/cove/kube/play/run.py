"""Carries out a plan. What cannot be is told before anything is made; what fails or is interrupted leaves nothing."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from cove.errors import CoveError
from cove.kube.play import archive, present
from cove.kube.play.engine import Engine, Refused
from cove.kube.play.plan import PLAY, POD_IP, RUN, Body, Check, Container, Entry, Job, Plan, Pod
from cove.kube.play.pods import PAUSE
from cove.kube.shown import inset
from cove.plain import printable

OTHER_PAUSE = "busybox"
LOG_LINES = 20
LOOK_S = 0.5
LONGEST_BACKOFF_S = 30.0
AT_ONCE = 512
"""Pods wait for each other in their init containers: all of them are begun at the same time."""


class PlayError(CoveError):
    """A play that could not begin, or could not go on."""


class _Stopped(Exception):
    """The play is being ended; said to its threads."""


class _InitFailed(PlayError):
    pass


@dataclass
class JobResult:
    name: str
    completions: int
    succeeded: int = 0
    failures: int = 0
    exit_code: int = 0
    """The last one that was not 0, of a job that has failed."""

    @property
    def done(self) -> bool:
        return self.succeeded == self.completions


@dataclass
class Result:
    jobs: list[JobResult] = field(default_factory=list)
    ports: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Of each pod: where it is on this computer, and the port that it leads to."""


def prepare(engine: Engine, plan: Plan, say: Callable[[str], None], *, replace: bool, named: bool) -> list[str]:
    """Whatever can be known before anything is made, and notes of that. Raises `PlayError`, `Refused`."""
    there = present.look(engine, plan.name)
    same_file(there, plan.name, plan.file, named=named)
    if there.there and not replace:
        raise PlayError(
            f"the play {plan.name} is there already, with {len(there.pods)} pods",
            "play it anew with --replace, end it with --down, or give this one another --name",
        )
    own = {each["Id"] for each in there.containers}
    for name in [name for pod in plan.all_pods for name in pod.names]:
        found = _found(engine, f"/containers/{name}/json")
        # What an engine does not know as a name it looks up as the beginning of an id: db, cafe.
        if found is not None and found["Name"] == f"/{name}" and found["Id"] not in own:
            raise PlayError(
                f"there is a container {name} already, which is not of this play",
                f"cove rm -f {name}, or cove rename {name} NAME",
            )
    mine = {each["Name"] for each in there.volumes}
    for volume in [volume for pod in plan.all_pods for volume in pod.volumes]:
        if volume.name not in mine and _found(engine, f"/volumes/{volume.name}") is not None:
            raise PlayError(
                f"there is a volume {volume.name} already, which is not of this play", f"cove volume rm {volume.name}"
            )
    if not there.networks and _found(engine, f"/networks/{plan.network}") is not None:
        raise PlayError(
            f"there is a network {plan.network} already, which is not of this play", f"cove network rm {plan.network}"
        )
    for claim, place in plan.wanted_claims.items():
        if _found(engine, f"/volumes/{quote(claim, safe='')}") is None:
            raise PlayError(f"{place}: there is no claim {claim} in these manifests, and no volume of that name")
    notes = _found_claims(engine, plan)
    _limit_cpus(engine, plan)
    _images(engine, plan, say)
    return notes


def _found_claims(engine: Engine, plan: Plan) -> list[str]:
    """Tell of claims whose volume is there, but not of an earlier play of these manifests. Raises `PlayError` for another play's."""
    notes = []
    for claim in plan.claims:
        found = _found(engine, f"/volumes/{claim.name}")
        if found is None:
            continue
        owner = (found.get("Labels") or {}).get(PLAY, "")
        if owner not in ("", plan.name):
            raise PlayError(
                f"claim {claim.name}: there is a volume of this name already, a claim of the play {owner}",
                "give the claim another name, or leave it out of this play, which then uses that volume as it is",
            )
        if not owner:
            notes.append(f"claim {claim.name}: there is a volume of this name already, of no play: it is used as it is")
    return notes


def same_file(there: present.Present, name: str, file: str, *, named: bool) -> None:
    """Raises `PlayError` for another file of the same name, unless the play was named."""
    others = there.files - {file}
    if others and not named:
        raise PlayError(
            f"there is a play {name} of another file: {', '.join(map(printable, sorted(others)))}",
            f"--name {name} says that it is meant; another name makes another play",
        )


def _found(engine: Engine, path: str) -> Any:
    try:
        return engine.call("GET", path)
    except Refused as error:
        if error.code != 404:
            raise
        return None


def _limit_cpus(engine: Engine, plan: Plan) -> None:
    """More processors than there are limit nothing, which an engine refuses and a node does not mind."""
    limited = [
        each.body["HostConfig"] for pod in plan.all_pods for each in pod.all if "NanoCpus" in each.body["HostConfig"]
    ]
    if not limited:
        return
    most = int(engine.call("GET", "/info")["NCPU"]) * 10**9
    for config in limited:
        config["NanoCpus"] = min(config["NanoCpus"], most)


def _images(engine: Engine, plan: Plan, say: Callable[[str], None]) -> None:
    """Have all images, or find out which cannot be had."""
    pulled: set[str] = set()
    for container in [each for pod in plan.all_pods for each in pod.all]:
        image, path = container.image, f"/images/{quote(container.image, safe='')}/json"
        known = _found(engine, path)
        if known is None and container.pull == "Never":
            raise PlayError(f"{container.place}: there is no image {image}, and imagePullPolicy is Never")
        if (known is None or container.pull == "Always") and image not in pulled:
            say(f"pulling {image}")
            try:
                engine.pull(image)
            except CoveError as error:
                raise PlayError(f"{container.place}: image {image}: {error.message}", error.hint) from error
            pulled.add(image)
            known = _found(engine, path)
        if container.non_root:
            user = str(((known or {}).get("Config") or {}).get("User") or "0").partition(":")[0]
            if not user.isdecimal() or not int(user):
                raise PlayError(
                    f"{container.place}: runAsNonRoot, and the image's user is {user}: it must be a number, not 0"
                )
    pause = next((each for each in (PAUSE, OTHER_PAUSE) if _found(engine, f"/images/{quote(each, safe='')}/json")), "")
    if not pause:
        try:
            engine.pull(PAUSE)  # somebody has removed it; the engine has it put by
            pause = PAUSE
        except Refused:  # another engine than Cove's
            engine.pull(OTHER_PAUSE)
            pause = OTHER_PAUSE
    for pod in plan.all_pods:
        pod.pause["Image"] = pause


class Run:
    """One play, from its network to the end of its jobs."""

    def __init__(
        self, engine: Engine, plan: Plan, say: Callable[[str], None], *, timeout_s: float = 0, backoff_s: float = 1.0
    ) -> None:
        self._engine = engine
        self._plan = plan
        self._say = say
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._stopping = threading.Event()
        self._claims_made: list[str] = []
        self._lock = threading.Lock()

    def up(self, *, start: bool = True) -> Result:
        """Make and start everything, and wait for jobs. Raises `PlayError`, `Refused`, and `KeyboardInterrupt`; then nothing is left."""
        plan = self._plan
        self._take_network()
        with self._nothing_left():
            for claim in plan.claims:
                if _found(self._engine, f"/volumes/{claim.name}") is None:
                    self._engine.call("POST", "/volumes/create", body=claim.body)
                    self._claims_made.append(claim.name)
            if not start:
                for pod in plan.all_pods:
                    self._make(self._engine, pod, start=False)
                return Result()
            results = [JobResult(job.name, len(job.pods)) for job in plan.jobs]
            self._all_at_once(results)
            return Result(results, {pod.name: self._ports(pod) for pod in plan.pods if pod.published})

    def _take_network(self) -> None:
        """Before all else, for it is the lock: of two plays that begin at once one has it, and only that takes anything back."""
        labels = {**self._plan.labels, RUN: uuid.uuid4().hex}
        try:
            self._engine.call("POST", "/networks/create", body={"Name": self._plan.network, "Labels": labels})
        except Refused as error:
            if error.code == 409:
                raise PlayError(f"the play {self._plan.name} is being started, or is there, already") from error
            raise
        except BaseException:  # interrupted: it may have been made, or be another's
            engine = self._engine.another()
            found = _found(engine, f"/networks/{self._plan.network}")
            if found is not None and (found.get("Labels") or {}).get(RUN) == labels[RUN]:
                engine.call("DELETE", f"/networks/{found['Id']}")
            raise

    @contextmanager
    def _nothing_left(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._stopping.set()
            self._say(f"removing what was made of {self._plan.name}")
            removed = present.remove(self._engine.another(), self._plan.name, volumes=False, gently=False)
            for name in self._claims_made:
                if name not in removed.volumes:
                    self._engine.another().call("DELETE", f"/volumes/{name}")
            raise

    def _all_at_once(self, results: list[JobResult]) -> None:
        plan, deadline = self._plan, time.monotonic() + self._timeout_s if self._timeout_s else None
        tasks = len(plan.pods) + sum(min(job.parallelism, len(job.pods)) for job in plan.jobs)
        if not tasks:
            return
        with ThreadPoolExecutor(min(tasks, AT_ONCE)) as pool:
            try:
                running: list[Future[None]] = [pool.submit(self._pod, pod) for pod in plan.pods]
                for job, result in zip(plan.jobs, results, strict=True):
                    waiting = list(reversed(job.pods))
                    running += [
                        pool.submit(self._job, job, result, waiting) for _ in range(min(job.parallelism, len(job.pods)))
                    ]
                while True:
                    # In pieces: Windows hears of Ctrl-C between them alone.
                    done, going_on = wait(running, LOOK_S, FIRST_EXCEPTION)
                    for each in done:
                        each.result()
                    if not going_on:
                        return
                    if deadline is not None and time.monotonic() > deadline:
                        raise PlayError(f"not everything has started, or ended, within {self._timeout_s:g} s")
            except BaseException:
                self._stopping.set()
                # Ends what the threads wait for; what they make meanwhile goes when they are done.
                with suppress(CoveError):
                    present.remove(self._engine.another(), plan.name, volumes=False, gently=False)
                raise

    # -- one pod

    def _pod(self, pod: Pod) -> None:
        engine = self._engine.another()
        with _quiet_when(self._stopping):
            self._make(engine, pod, start=True)
            self._start(engine, pod, lambda code: False)

    def _make(self, engine: Engine, pod: Pod, *, start: bool) -> None:
        """The pod's own container, running, and the others, not yet."""
        for volume in pod.volumes:
            self._call(engine, "POST", "/volumes/create", body=volume.body)
        self._create(engine, pod.name, pod.pause)
        if start:
            self._call(engine, "POST", f"/containers/{pod.name}/start")
        entries = [each for each in pod.entries if self._wanted(engine, pod, each)]
        if entries:
            engine.call("PUT", f"/containers/{pod.name}/archive", {"path": "/"}, archive=archive.pack(entries))
        for host in pod.host_paths:
            if engine.kind(pod.name, host.path) != host.kind:
                raise PlayError(f"{host.place}: {host.text}")
        address = self._address(engine, pod) if pod.needs_ip else ""
        for container in pod.all:
            self._create(engine, container.name, _filled(container.body, address) if address else container.body)

    def _wanted(self, engine: Engine, pod: Pod, entry: Entry) -> bool:
        if entry.of_new:
            return entry.of_new in self._claims_made
        return not (entry.missing and engine.kind(pod.name, f"/{entry.path}"))

    def _start(self, engine: Engine, pod: Pod, too_many: Callable[[int], bool]) -> None:
        """`too_many` is told each failure of an init container that would be started again, and says whether that was one too many."""
        for container in pod.inits:
            if container.sidecar:
                self._call(engine, "POST", f"/containers/{container.name}/start")
                if container.startup:
                    self._started(engine, pod, container, container.startup)
            else:
                self._to_the_end(engine, pod, container, too_many)
        for container in pod.containers:
            self._call(engine, "POST", f"/containers/{container.name}/start")
        self._say(f"pod {pod.name}: {', '.join(each.called for each in pod.containers)}")

    def _to_the_end(self, engine: Engine, pod: Pod, container: Container, too_many: Callable[[int], bool]) -> None:
        delay = self._backoff_s
        while code := self._run(engine, container):
            if pod.restart == "Never" or too_many(code):
                raise _InitFailed(
                    f"init container {container.called} of pod {pod.name} ended with status {code}{self._last_words(engine, container)}"
                )
            self._say(
                f"init container {container.called} of pod {pod.name} ended with status {code}; again in {delay:g} s"
            )
            self._sleep(delay)
            delay = min(delay * 2, LONGEST_BACKOFF_S)

    def _run(self, engine: Engine, container: Container) -> int:
        self._call(engine, "POST", f"/containers/{container.name}/start")
        return self._ended(engine, container)

    def _ended(self, engine: Engine, container: Container) -> int:
        """Its exit status, once it has ended."""
        return int(
            engine.call("POST", f"/containers/{container.name}/wait", {"condition": "not-running"})["StatusCode"]
        )

    def _started(self, engine: Engine, pod: Pod, container: Container, check: Check) -> None:
        self._sleep(check.delay_s)
        for _ in range(check.tries):
            self._check()
            if engine.execute(pod.name if check.in_pause else container.name, check.command, check.timeout_s) == 0:
                return
            self._sleep(check.period_s)
        raise PlayError(
            f"the startupProbe of {container.called}, pod {pod.name}, has failed {check.tries} times{self._last_words(engine, container)}"
        )

    def _address(self, engine: Engine, pod: Pod) -> str:
        networks = engine.call("GET", f"/containers/{pod.name}/json")["NetworkSettings"]["Networks"]
        address = str((networks.get(self._plan.network) or {}).get("IPAddress") or "")
        if not address:
            raise PlayError(f"{pod.place}: status.podIP: pod {pod.name} has no address of its own, or does not run")
        return address

    def _ports(self, pod: Pod) -> list[tuple[str, str]]:
        ports = self._engine.call("GET", f"/containers/{pod.name}/json")["NetworkSettings"]["Ports"] or {}
        found = [(binding, port) for port, bindings in ports.items() for binding in bindings or ()]
        return [(f"{_host(binding['HostIp'])}:{binding['HostPort']}", port) for binding, port in found]

    # -- jobs

    def _job(self, job: Job, result: JobResult, waiting: list[Pod]) -> None:
        """One of those that work on a job: pod by pod, until there are none left, or too many have failed."""
        engine = self._engine.another()
        with _quiet_when(self._stopping):
            while True:
                with self._lock:
                    if not waiting or result.exit_code:
                        return
                    pod = waiting.pop()
                self._complete(engine, job, result, pod)

    def _complete(self, engine: Engine, job: Job, result: JobResult, pod: Pod) -> None:
        delay = self._backoff_s
        self._make(engine, pod, start=True)
        while code := self._run_pod(engine, job, result, pod):
            if self._failed(job, result, pod, code):
                for each in job.pods:  # those that go on would go on for nothing
                    self._end(engine, each)
                return
            self._sleep(delay)
            delay = min(delay * 2, LONGEST_BACKOFF_S)
            self._remove(engine, pod)
            self._make(engine, pod, start=True)
        self._end(engine, pod)
        with self._lock:
            result.succeeded += 1
        self._say(f"job {job.name}: {result.succeeded} of {result.completions} done")

    def _run_pod(self, engine: Engine, job: Job, result: JobResult, pod: Pod) -> int:
        """The status of the first container that has failed for good, 0 when all have ended well."""
        try:
            self._start(engine, pod, lambda code: self._failed(job, result, pod, code))
        except _InitFailed as error:
            self._say(error.message)
            return 1
        for container in pod.containers:
            code, delay = self._ended(engine, container), self._backoff_s
            while code:
                self._check()
                if not result.exit_code:  # else the job has failed, and ends what is left of it
                    self._say(f"{container.name} ended with status {code}{self._last_words(engine, container)}")
                if pod.restart != "OnFailure" or self._failed(job, result, pod, code):
                    return code
                self._sleep(delay)
                delay = min(delay * 2, LONGEST_BACKOFF_S)
                code = self._run(engine, container)
        return 0

    def _failed(self, job: Job, result: JobResult, pod: Pod, code: int) -> bool:
        """Count a failure; whether it was one too many."""
        with self._lock:
            if result.exit_code:
                return True
            result.failures += 1
            if result.failures > job.backoff_limit:
                result.exit_code = code
        self._say(
            f"job {job.name}: pod {pod.name} has failed with status {code} ({result.failures} of {job.backoff_limit + 1})"
        )
        return bool(result.exit_code)

    def _end(self, engine: Engine, pod: Pod) -> None:
        """Nothing of a pod that is done goes on; it stays to be looked at."""
        for name in [
            *(each.name for each in pod.inits if each.sidecar),
            *(each.name for each in pod.containers),
            pod.name,
        ]:
            self._check()
            with suppress(Refused):  # it may not have been made
                engine.call("POST", f"/containers/{name}/stop")

    def _remove(self, engine: Engine, pod: Pod) -> None:
        for name in reversed(pod.names):
            self._call(engine, "DELETE", f"/containers/{name}", {"force": "1", "v": "1"})
        for volume in pod.volumes:
            self._call(engine, "DELETE", f"/volumes/{volume.name}")

    # -- the engine

    def _create(self, engine: Engine, name: str, body: Body) -> None:
        self._call(engine, "POST", "/containers/create", {"name": name}, body)

    def _call(
        self, engine: Engine, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None
    ) -> Any:
        self._check()
        return engine.call(method, path, query, body)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _Stopped

    def _last_words(self, engine: Engine, container: Container) -> str:
        said = engine.log(container.name, LOG_LINES).rstrip()
        return inset(f"; its last words:\n{said}") if said else ""


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address or "127.0.0.1"


@contextmanager
def _quiet_when(stopping: threading.Event) -> Iterator[None]:
    """What goes wrong because everything is being removed is told to nobody."""
    try:
        yield
    except (_Stopped, CoveError):
        if not stopping.is_set():
            raise


def _filled(body: Body, address: str) -> Body:
    """The body with the pod's address where it is asked for."""

    def each(words: Iterable[str]) -> list[str]:
        return [word.replace(POD_IP, address) for word in words]

    return {**body, **{key: each(body[key]) for key in ("Env", "Entrypoint", "Cmd") if body.get(key)}}
