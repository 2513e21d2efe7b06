"""The objects of manifests, and the plan that they make together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cove.kube.play import pods, services, storage
from cove.kube.play.documents import Node
from cove.kube.play.fields import Fields, Reading, meant
from cove.kube.play.plan import FILE, PLAY, Job, Plan, Pod, Published
from cove.kube.play.pods import Template, World
from cove.kube.play.problems import ManifestError, Problems
from cove.kube.play.storage import NAME

MOST_PODS = 200
CONFIGS = ("ConfigMap", "Secret")
VERSIONS = {
    "Pod": "v1", "ConfigMap": "v1", "Secret": "v1", "PersistentVolumeClaim": "v1", "Service": "v1", "Namespace": "v1",
    "ServiceAccount": "v1", "Deployment": "apps/v1", "Job": "batch/v1",
}  # fmt: skip
_PUBLISH = re.compile(
    r"(?:(?P<ip>[0-9]+(?:\.[0-9]+){3}|\[[0-9a-fA-F:.]+\]):)?(?:(?P<host>[0-9]{0,5}):)?(?P<port>[0-9]{1,5})(?:/(?P<protocol>tcp|udp))?\Z"
)


@dataclass(frozen=True, slots=True)
class Object:
    kind: str
    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    fields: Fields

    @property
    def owner(self) -> str:
        return f"{self.kind}/{self.name}"


def plan(
    documents: Iterable[Node], configs: Iterable[Node], name: str, file: str, publish: Sequence[str], reading: Reading
) -> Plan:
    """What is to be made of `documents`; `configs` are further ConfigMaps. What is wrong is in `reading.problems` then."""
    problems = reading.problems
    labels = {PLAY: name, FILE: file}
    world = World(labels, f"kube-{name}")
    objects = list(_objects(documents, reading))
    for each in _objects(configs, reading):
        if each.kind in CONFIGS:
            objects.append(each)
        else:
            each.fields.ignore(*each.fields.names())
            each.fields.wrong(f"--configmap takes ConfigMaps and Secrets, not a {each.kind}")
    _twice(objects)
    made = Plan(name, file, world.network, [], [], [], world.wanted_claims, problems.notes)
    for each in objects:
        _first(each, world)
    services.same_names(world.services, problems)
    made.claims = list(world.claims.values())
    for each in objects:
        if len(made.all_pods) > MOST_PODS:
            each.fields.wrong(f"more than {MOST_PODS} pods are not supported")
            break
        if each.kind == "Pod":
            if template := _template(each, each.fields.inner("spec")):
                made.pods.append(pods.read(each.name, template, world))
        elif each.kind == "Deployment":
            made.pods += _deployment(each, world)
        elif each.kind == "Job":
            made.jobs += _job(each, world)
    services.without_pods(world.services, problems)
    _publish(made.all_pods, publish, problems)
    services.published(made.all_pods, problems)
    _names(made.all_pods, problems)
    for pod in made.all_pods:
        pods.publish(pod)
    reading.finish()
    return made


def _objects(documents: Iterable[Node], reading: Reading) -> Iterable[Object]:
    for node in documents:
        fields = reading.fields(node, "the document")
        if fields.has("services") and not fields.has("apiVersion"):
            fields.ignore(*fields.names())
            fields.wrong("this is a compose file: cove compose up runs it, cove kube generate makes manifests of it")
            continue
        kind, version = fields.text("kind", needed=True), fields.text("apiVersion", needed=True)
        if kind == "List" and version == "v1":
            fields.ignore("metadata")
            yield from _objects(fields.items("items"), reading)
            continue
        metadata = fields.inner("metadata")
        fields.ignore("status")
        if metadata is None:
            fields.wrong("metadata is missing")
            fields.ignore(*fields.names())
            continue
        name = metadata.text("name", needed=True)
        fields.about = metadata.about = f"{kind} {name}"
        if VERSIONS.get(kind) != version:
            fields.ignore(*fields.names())
            metadata.ignore(*metadata.names())
            if kind and version:
                if wanted := _mistyped(kind, version):
                    fields.wrong(f"there is no {kind} of {version}: {wanted} is meant?")
                    continue
                other = f" (of {VERSIONS[kind]} it is)" if kind in VERSIONS else ""
                fields.cannot(f"{kind} of {version} is not supported{other}")
            continue
        yield Object(kind, name, metadata.text("namespace") or "default", *_metadata(metadata), fields)


def _mistyped(kind: str, version: str) -> str:
    """The kind that is meant; "" for none. PersistentVolume and its list are no mistyped PersistentVolumeClaim."""
    one = kind.removesuffix("List")
    wanted = meant(one, VERSIONS)
    return "" if one in wanted or wanted in one or VERSIONS[wanted] != version else wanted


def _metadata(fields: Fields) -> tuple[dict[str, str], dict[str, str]]:
    fields.ignore(
        "name", "namespace", "creationTimestamp", "generation", "resourceVersion", "uid", "selfLink", "managedFields",
        "ownerReferences", "finalizers", "generateName",
    )  # fmt: skip
    return fields.strings("labels"), fields.strings("annotations")


def _twice(objects: Iterable[Object]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for each in objects:
        key = each.kind, each.namespace, each.name
        if key in seen:
            each.fields.wrong("is there twice")
        seen.add(key)


def _first(each: Object, world: World) -> None:
    """What pods refer to."""
    if each.kind == "Namespace":
        each.fields.ignore("spec")
    elif each.kind == "ServiceAccount":
        each.fields.ignore("automountServiceAccountToken", "imagePullSecrets", "secrets")
    elif each.kind in CONFIGS:
        world.configs.read(each.kind, each.namespace, each.name, each.fields)
    elif each.kind in ("Service", "PersistentVolumeClaim"):
        spec = each.fields.inner("spec")
        if not NAME.match(each.name):
            each.fields.wrong(f"{each.name!r} is no name: a-z, 0-9 and - are")
        if spec is None:
            each.fields.wrong("spec is missing")
        elif each.kind == "PersistentVolumeClaim":
            claim = storage.read_claim(each.name, each.namespace, world.labels, spec)
            if any(other.name == claim.name for other in world.claims.values()):
                each.fields.wrong("another namespace has a claim of this name: they would be one volume")
            world.claims[each.namespace, each.name] = claim
        elif service := services.read(each.name, each.namespace, spec):
            world.services.append(service)


def _template(each: Object, spec: Fields | None) -> Template | None:
    if spec is None:
        each.fields.wrong("spec is missing")
        return None
    return Template(each.owner, each.namespace, each.labels, each.annotations, spec)


def _of_spec(each: Object, spec: Fields, restarts: tuple[str, ...]) -> Template | None:
    """The pod template of a Deployment or a Job."""
    template = spec.inner("template")
    if template is None:
        each.fields.wrong("spec.template is missing")
        return None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    if metadata := template.inner("metadata"):
        labels, annotations = _metadata(metadata)
    inner = template.inner("spec")
    if inner is None:
        each.fields.wrong("spec.template.spec is missing")
        return None
    return Template(each.owner, each.namespace, labels, annotations, inner, restarts)


def _counted(each: Object, count: int, template: Template | None, world: World) -> list[Pod]:
    """So many pods of a template, which is read also when there are to be none."""
    if template is None:
        return []
    if count > MOST_PODS:
        each.fields.wrong(f"more than {MOST_PODS} pods of one object are not supported")
    numbers = range(1, min(max(1, count), MOST_PODS) + 1)
    return [pods.read(f"{each.name}-{number}", template, world) for number in numbers][:count]


def _deployment(each: Object, world: World) -> list[Pod]:
    spec = each.fields.inner("spec")
    if spec is None:
        each.fields.wrong("spec is missing")
        return []
    spec.ignore("strategy", "minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit", "paused")
    template = _of_spec(each, spec, ("Always",))
    selector = spec.inner("selector")
    if selector is None:
        spec.wrong("spec.selector is missing")
    else:
        expressions = selector.items("matchExpressions")
        if expressions:
            selector.cannot("spec.selector.matchExpressions is not supported")
        wanted = selector.strings("matchLabels")
        if not wanted and not expressions:
            selector.wrong("spec.selector is empty")
        if template and not wanted.items() <= template.labels.items():
            selector.wrong("spec.selector does not choose the pods of spec.template")
    return _counted(each, spec.number("replicas", 1), template, world)


def _job(each: Object, world: World) -> list[Job]:
    spec = each.fields.inner("spec")
    if spec is None:
        each.fields.wrong("spec is missing")
        return []
    spec.ignore("selector", "manualSelector", "podReplacementPolicy")
    if spec.text("completionMode", "NonIndexed") != "NonIndexed":
        spec.cannot("spec.completionMode Indexed is not supported")
    if spec.flag("suspend"):
        spec.cannot("spec.suspend is not supported")
    if spec.has("ttlSecondsAfterFinished"):
        spec.ignore("ttlSecondsAfterFinished")
        spec.note("spec.ttlSecondsAfterFinished: the pods stay until --down")
    parallelism = spec.number("parallelism", 1)
    if not parallelism:
        spec.cannot("spec.parallelism 0 is not supported")
    completions = spec.number("completions", max(1, parallelism))
    template = _of_spec(each, spec, ("Never", "OnFailure"))
    if template is not None and not template.spec.has("restartPolicy"):
        each.fields.wrong("spec.template.spec.restartPolicy must be Never or OnFailure")
    made = _counted(each, completions, template, world)
    for pod in made:
        for container in pod.containers:  # the job itself starts them again, and counts
            container.body["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    return [Job(each.name, made, max(1, parallelism), spec.number("backoffLimit", 6))]


def _publish(made: Sequence[Pod], publish: Sequence[str], problems: Problems) -> None:
    """`--publish`: to the pod that says that it has this port, or to the only one."""
    for text in publish:
        found = _PUBLISH.match(text)
        if found is None or not 0 < int(found["port"]) < 65536 or int(found["host"] or 0) > 65535:
            raise ManifestError(f"--publish {text}: it must be [[IP:]PORT:]PORT-OF-A-CONTAINER[/udp]")
        port, protocol = int(found["port"]), found["protocol"] or "tcp"
        having = [pod for pod in made if port in pod.ports] or list(made)
        if len(having) != 1:
            raise ManifestError(f"--publish {text}: {len(having) or 'no'} pods could have port {port}")
        pod = having[0]
        pod.published = [each for each in pod.published if (each.container, each.protocol) != (port, protocol)]
        pod.published.append(Published(port, protocol, int(found["host"] or 0), (found["ip"] or "").strip("[]")))


def _names(made: Sequence[Pod], problems: Problems) -> None:
    """Pods and their containers have one space of names in the engine."""
    seen: dict[str, Pod] = {}
    for pod in made:
        for name in pod.names:
            other = seen.setdefault(name, pod)
            if other is not pod and other.name == pod.name == name:
                problems.refuse(pod.place, f"{pod.owner}: {other.owner} has a pod {name}, too: give one another name")
            elif other is not pod and other.name != pod.name:
                problems.refuse(pod.place, f"{pod.owner}: pod {other.name} has a container {name}, too")
