"""A plan is carried out, looked at before, and taken back: on an engine in memory."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from cove.errors import CoveError
from cove.kube.play import present, run
from cove.kube.play.engine import Refused
from cove.kube.play.plan import PLAY, RUN, Plan
from play_engine import MemoryEngine
from play_support import CONTAINER, plan, pod_text

POD = pod_text(f"containers: {CONTAINER}")
CLAIM = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {}\n---\n"


def job(spec: str = "", restart: str = "Never") -> str:
    return f"""apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  template: {{spec: {{containers: [{{name: main, image: busybox}}], restartPolicy: {restart}}}}}
  {spec}
---
"""


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def said() -> list[str]:
    return []


def prepare(engine: MemoryEngine, made: Plan, **more: Any) -> list[str]:
    return run.prepare(engine, made, lambda text: None, **{"replace": False, "named": False, **more})


def up(engine: MemoryEngine, text: str, said: list[str], **more: Any) -> run.Result:
    made = plan(text)
    prepare(engine, made)
    return run.Run(engine, made, said.append, backoff_s=0, **more).up()


def test_init_containers_come_before_the_others(engine: MemoryEngine, said: list[str]) -> None:
    engine.ends = {"web-a": [1, 1, 0], "web-b": [0]}
    text = pod_text(
        f"initContainers: [{{name: a, image: busybox}}, {{name: b, image: busybox}}]\ncontainers: {CONTAINER}"
    )
    up(engine, text, said)
    assert engine.started == ["web", "web-a", "web-a", "web-a", "web-b", "web-main"]
    assert "init container a of pod web ended with status 1; again in 0 s" in said


def test_what_is_made_can_be_found_and_removed_and_claims_stay(engine: MemoryEngine, said: list[str]) -> None:
    volumes = "volumes: [{name: a, emptyDir: {}}, {name: b, persistentVolumeClaim: {claimName: data}}]"
    up(engine, pod_text(f"containers: {CONTAINER}\n{volumes}") + CLAIM, said)
    assert {*engine.volumes} == {"web_a", "data"} and {*engine.networks} == {"kube-app"}
    removed = present.remove(engine, "app", volumes=False)
    assert {*removed.containers} == {"web", "web-main"} and removed.volumes == ["web_a"]
    assert {*engine.volumes} == {"data"} and not engine.networks and not engine.containers
    present.remove(engine, "app", volumes=True)
    assert engine.empty


def test_who_takes_its_time_to_end_is_told(
    engine: MemoryEngine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five containers end when that has been said, and not before."""
    told = threading.Event()

    class Slow(MemoryEngine):
        def call(self, method: str, path: str, *more: Any, **named: Any) -> Any:
            if path.endswith("/stop"):
                assert told.wait(20)
            answer = super().call(method, path, *more, **named)
            return {"Config": answer["Body"], **answer} if path.endswith("/json") and "Body" in answer else answer

    def say(text: str) -> None:
        said.append(text)
        told.set()

    monkeypatch.setattr(present, "PATIENCE_S", 0)
    slow = Slow()
    names = ("a", "b", "c", "d", "e")
    inner = ", ".join(f"{{name: {name}, image: busybox}}" for name in names)
    up(slow, pod_text(f"terminationGracePeriodSeconds: 7\ncontainers: [{inner}]"), [])
    present.remove(slow, "app", volumes=False, say=say)
    assert said == ["waiting for web-a, web-b, web-c, 2 more to end (up to 7 s)"]
    assert slow.empty


def test_a_pods_address_is_told(engine: MemoryEngine, said: list[str]) -> None:
    field = "valueFrom: {fieldRef: {fieldPath: status.podIP}}"
    up(
        engine,
        pod_text(f"containers: [{{name: main, image: busybox, env: [{{name: IP, {field}}}], args: ['$(IP):1']}}]"),
        said,
    )
    body = engine.containers["web-main"]["Body"]
    assert (body["Env"], body["Cmd"]) == (["IP=10.1.1.1"], ["10.1.1.1:1"])


def test_a_refusal_in_the_middle_leaves_nothing_but_what_was_there(engine: MemoryEngine, said: list[str]) -> None:
    engine.volumes["mine"] = {"Name": "mine", "Labels": {}}
    engine.refused["POST /containers/web/start"] = Refused(500, "port is already allocated")
    with pytest.raises(Refused, match="port is already allocated"):
        up(engine, POD + CLAIM, said)
    assert {*engine.volumes} == {"mine"} and not engine.containers and not engine.networks


def test_a_claim_that_was_there_is_left_by_a_play_that_fails(engine: MemoryEngine, said: list[str]) -> None:
    up(engine, POD + CLAIM, said)
    present.remove(engine, "app", volumes=False)
    engine.refused["POST /containers/web/start"] = Refused(500, "no")
    with pytest.raises(Refused):
        up(engine, POD + CLAIM, said)
    assert {*engine.volumes} == {"data"}


def test_what_takes_too_long_is_removed(engine: MemoryEngine, said: list[str]) -> None:
    text = pod_text(f"initContainers: [{{name: a, image: busybox}}]\ncontainers: {CONTAINER}")
    with pytest.raises(run.PlayError, match=r"not everything has started, or ended, within 0\.01 s"):
        up(engine, text, said, timeout_s=0.01)
    assert engine.empty


def test_an_init_container_that_fails_for_good_is_told_with_its_last_words(
    engine: MemoryEngine, said: list[str]
) -> None:
    engine.ends = {"web-a": [7]}
    text = pod_text(f"restartPolicy: Never\ninitContainers: [{{name: a, image: busybox}}]\ncontainers: {CONTAINER}")
    with pytest.raises(run.PlayError, match="ended with status 7; its last words:\n  words of web-a"):
        up(engine, text, said)
    assert engine.empty


def test_a_container_says_nothing_to_the_terminal(
    engine: MemoryEngine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "log", lambda container, lines: "a\x1b]0;title\a\x1b[2J\rjob web: 1 of 1 done\n")
    engine.ends = {"web-a": [7]}
    text = pod_text(f"restartPolicy: Never\ninitContainers: [{{name: a, image: busybox}}]\ncontainers: {CONTAINER}")
    with pytest.raises(run.PlayError) as raised:
        up(engine, text, said)
    assert raised.value.message.splitlines()[1:] == ["  a?]0;title??[2J", "  job web: 1 of 1 done"]


def test_a_job_has_its_completions_a_few_at_a_time(engine: MemoryEngine, said: list[str]) -> None:
    engine.ends = {f"once-{number}-main": [0] for number in range(1, 6)}
    (result,) = up(engine, job("completions: 5\n  parallelism: 2"), said).jobs
    assert (result.done, result.succeeded, result.failures) == (True, 5, 0)
    assert engine.most_running <= 2


@pytest.mark.parametrize("restart", ["Never", "OnFailure"])
def test_a_job_is_tried_again_until_its_limit(engine: MemoryEngine, said: list[str], restart: str) -> None:
    engine.ends = {"once-1-main": [1, 2, 0]}
    (result,) = up(engine, job("backoffLimit: 2", restart), said).jobs
    assert (result.done, result.failures, result.exit_code) == (True, 2, 0)
    # A pod that never restarts is another one the next time; else it is its container alone.
    assert engine.started.count("once-1") == (3 if restart == "Never" else 1)


@pytest.mark.parametrize("restart", ["Never", "OnFailure"])
def test_a_job_fails_after_its_limit_with_the_last_status(engine: MemoryEngine, said: list[str], restart: str) -> None:
    engine.ends = {"once-1-main": [1, 3], "once-2-main": [0]}
    (result,) = up(engine, job("backoffLimit: 1\n  completions: 2\n  parallelism: 1", restart), said).jobs
    assert (result.done, result.succeeded, result.failures, result.exit_code) == (False, 0, 2, 3)
    assert "once-2" not in engine.started


def test_all_pods_are_begun_at_the_same_time(said: list[str]) -> None:
    """One waits in its init container for what another does: here, until that has started."""

    class Waiting(MemoryEngine):
        def call(self, method: str, path: str, *more: Any, **named: Any) -> Any:
            answer = super().call(method, path, *more, **named)
            if path == "/containers/b-main/start":
                with self.lock:
                    self.lock.wait_for(lambda: "a-init" in self.containers, 20)
                    self.containers["a-init"]["Status"] = 0
                    self.lock.notify_all()
            return answer

    first = pod_text(f"initContainers: [{{name: init, image: busybox}}]\ncontainers: {CONTAINER}", name="a")
    waiting = Waiting()
    up(waiting, first + pod_text(f"containers: {CONTAINER}", name="b"), said)
    assert waiting.started[-1] == "a-main"


def test_images_are_pulled_when_they_are_not_there_or_always(engine: MemoryEngine) -> None:
    engine.to_pull = {"other", "busybox"}
    prepare(
        engine,
        plan(pod_text("containers: [{name: a, image: other}, {name: b, image: busybox}, {name: c, image: other}]")),
    )
    assert engine.pulled == ["other"]
    prepare(engine, plan(pod_text("containers: [{name: b, image: busybox, imagePullPolicy: Always}]")))
    assert engine.pulled == ["other", "busybox"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (pod_text("containers: [{name: a, image: none}]"), "app.yaml:5: image none: pull access denied for none"),
        (pod_text("containers: [{name: a, image: none, imagePullPolicy: Never}]"), "imagePullPolicy is Never"),
        (pod_text(f"containers: {CONTAINER}\nsecurityContext: {{runAsNonRoot: true}}"), "the image's user is 0"),
        (pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: v, persistentVolumeClaim: {{claimName: gone}}}}]"),
         "app.yaml:6: there is no claim gone in these manifests, and no volume of that name"),
        (pod_text(f"containers: {CONTAINER}", name="taken"), "there is a container taken already, which is not of this play"),
        (pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: v, emptyDir: {{}}}}]"), "there is a volume web_v already"),
    ],
)  # fmt: skip
def test_what_is_known_before_is_told_before(engine: MemoryEngine, text: str, problem: str) -> None:
    engine.containers["taken"] = {"Id": "7a4e", "Name": "/taken", "Names": ["/taken"], "Labels": {}}
    engine.volumes["web_v"] = {"Name": "web_v", "Labels": {}}
    with pytest.raises(CoveError) as raised:
        prepare(engine, plan(text))
    assert problem in raised.value.message
    assert {*engine.containers} == {"taken"} and not engine.networks


def test_another_image_serves_pods_where_the_starter_is_not(engine: MemoryEngine) -> None:
    made = plan(POD)
    del engine.images["cove/starter"]
    prepare(engine, made)
    assert made.pods[0].pause["Image"] == "busybox"


@pytest.mark.parametrize("there", ["cove/starter", "busybox"])
def test_it_is_pulled_where_neither_is(engine: MemoryEngine, there: str) -> None:
    made = plan(pod_text("containers: [{name: a, image: other}]"))
    engine.images, engine.to_pull = {}, {"other", there}
    prepare(engine, made)
    assert made.pods[0].pause["Image"] == there


def test_a_play_is_of_one_file(engine: MemoryEngine, said: list[str]) -> None:
    up(engine, POD, said)
    there = present.look(engine, "app")
    with pytest.raises(run.PlayError, match="there is a play app of another file"):
        run.same_file(there, "app", "/y/app.yaml", named=False)
    run.same_file(there, "app", "/y/app.yaml", named=True)
    with pytest.raises(run.PlayError, match="the play app is there already, with 1 pods"):
        prepare(engine, plan(POD))
    prepare(engine, plan(POD), replace=True)


def test_of_two_plays_that_begin_at_once_the_second_leaves_the_first_alone(
    engine: MemoryEngine, said: list[str]
) -> None:
    first, second = plan(POD + CLAIM), plan(POD + CLAIM)
    prepare(engine, first)
    prepare(engine, second)
    run.Run(engine, first, said.append).up()
    with pytest.raises(run.PlayError, match="the play app is being started, or is there, already"):
        run.Run(engine, second, said.append).up()
    assert {*engine.containers} == {"web", "web-main"} and {*engine.networks} == {"kube-app"}


@pytest.mark.parametrize("own", [True, False])
def test_who_is_interrupted_while_the_network_is_made_takes_back_its_own_alone(said: list[str], own: bool) -> None:
    class Interrupted(MemoryEngine):
        def call(self, method: str, path: str, *more: Any, **named: Any) -> Any:
            if path != "/networks/create":
                return super().call(method, path, *more, **named)
            if own:
                super().call(method, path, *more, **named)
            else:
                self.networks["kube-app"] = {"Id": "other", "Name": "kube-app", "Labels": {RUN: "other"}}
            raise KeyboardInterrupt

    interrupted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        up(interrupted, POD, said)
    assert bool(interrupted.networks) is not own


def test_a_pod_may_have_a_name_that_anothers_id_begins_with(engine: MemoryEngine, said: list[str]) -> None:
    engine.containers["other"] = {"Id": "cafe" * 16, "Name": "/other", "Names": ["/other"], "Labels": {}}
    up(engine, pod_text(f"containers: {CONTAINER}", name="cafe"), said)
    present.remove(engine, "app", volumes=False)
    assert {*engine.containers} == {"other"}


@pytest.mark.parametrize("source", ["web", "web-main"])
def test_a_container_of_an_image_that_was_committed_of_a_play_is_not_the_plays(
    engine: MemoryEngine, said: list[str], source: str
) -> None:
    up(engine, POD, said)
    copy = {"Id": "c0", "Name": "/mine", "Names": ["/mine"], "Labels": engine.containers[source]["Labels"]}
    engine.containers["mine"] = copy
    assert present.look(engine, "app").pods == ["web"]
    removed = present.remove(engine, "app", volumes=False)
    assert {*removed.containers} == {"web", "web-main"} and {*engine.containers} == {"mine"}


def test_a_claim_whose_volume_was_there_is_noted_unless_it_is_the_plays_own(
    engine: MemoryEngine, said: list[str]
) -> None:
    engine.volumes["data"] = {"Name": "data", "Labels": None}
    assert prepare(engine, plan(POD + CLAIM)) == [
        "claim data: there is a volume of this name already, of no play: it is used as it is"
    ]
    del engine.volumes["data"]
    up(engine, POD + CLAIM, said)
    assert prepare(engine, plan(POD + CLAIM), replace=True) == []


def test_another_plays_claim_is_refused_and_stays(engine: MemoryEngine) -> None:
    engine.volumes["data"] = {"Name": "data", "Labels": {PLAY: "other"}}
    with pytest.raises(run.PlayError, match="a claim of the play other"):
        prepare(engine, plan(POD + CLAIM))
    text = pod_text(f"containers: {CONTAINER}\nvolumes: [{{name: v, persistentVolumeClaim: {{claimName: data}}}}]")
    assert prepare(engine, plan(text)) == []
    assert present.remove(engine, "app", volumes=True).volumes == []
    assert {*engine.volumes} == {"data"}


def test_a_failing_init_container_of_a_job_is_counted(engine: MemoryEngine, said: list[str]) -> None:
    engine.ends = {"once-1-a": [1, 4]}
    text = job("backoffLimit: 1", "OnFailure").replace(
        "containers:", "initContainers: [{name: a, image: busybox}], containers:"
    )
    (result,) = up(engine, text, said).jobs
    assert (result.done, result.failures, result.exit_code) == (False, 2, 4)
    assert engine.started == ["once-1", "once-1-a", "once-1-a"]


def test_a_sidecars_startup_probe_has_its_time(engine: MemoryEngine, said: list[str]) -> None:
    probe = "startupProbe: {exec: {command: [test]}, timeoutSeconds: 7}"
    sidecar = f"[{{name: a, image: busybox, restartPolicy: Always, {probe}}}]"
    up(engine, pod_text(f"initContainers: {sidecar}\ncontainers: {CONTAINER}"), said)
    assert engine.executed == [("web-a", ["test"], 8)]


def test_a_limit_of_more_processors_than_there_are_is_none(engine: MemoryEngine, said: list[str]) -> None:
    limits = "containers: [{name: main, image: busybox, resources: {limits: {cpu: %s}}}]"
    for cpus, nano in (("1500m", 1_500_000_000), ("4", 2_000_000_000)):
        engine.containers.clear()
        engine.networks.clear()
        up(engine, pod_text(limits % cpus), said)
        assert engine.containers["web-main"]["Body"]["HostConfig"]["NanoCpus"] == nano
