"""Services: names of the pods that they choose, and ports on localhost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cove.kube.play.fields import Fields
from cove.kube.play.plan import Pod, Published
from cove.kube.play.problems import Place, Problems

PROTOCOLS = ("TCP", "UDP", "SCTP")
EVERY_ADDRESS = {"", "0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Port:
    port: int
    target: int | str
    node_port: int
    protocol: str
    place: Place


@dataclass(slots=True)
class Service:
    name: str
    namespace: str
    kind: str
    headless: bool
    selector: dict[str, str]
    ports: list[Port]
    place: Place
    pods: list[str] = field(default_factory=list)
    """Those that it has been found to choose."""

    @property
    def about(self) -> str:
        return f"Service {self.name}"

    @property
    def aliases(self) -> list[str]:
        whole = f"{self.name}.{self.namespace}"
        return [self.name, whole, f"{whole}.svc", f"{whole}.svc.cluster.local"]

    def chooses(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return namespace == self.namespace and self.selector.items() <= labels.items()


def read(name: str, namespace: str, fields: Fields) -> Service | None:
    fields.ignore(
        "publishNotReadyAddresses", "internalTrafficPolicy", "externalTrafficPolicy", "ipFamilyPolicy", "ipFamilies",
        "allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort", "trafficDistribution",
    )  # fmt: skip
    kind = fields.text("type", "ClusterIP")
    if kind not in ("ClusterIP", "NodePort", "LoadBalancer"):
        fields.ignore("externalName", "ports", "selector")
        fields.cannot(f"spec.type {kind} is not supported")
        return None
    address = fields.text("clusterIP")
    if address not in ("", "None"):
        fields.cannot("spec.clusterIP: an address of one's own is not supported")
    addresses = fields.texts("clusterIPs")
    if addresses and addresses != [address]:
        fields.cannot("spec.clusterIPs: addresses of one's own are not supported")
    if fields.text("sessionAffinity", "None") != "None":
        fields.cannot("spec.sessionAffinity is not supported")
    selector = fields.strings("selector")
    if not selector:
        fields.cannot("a Service without spec.selector is not supported")
    ports = [_port(each, fields) for each in fields.each("ports")]
    return Service(name, namespace, kind, address == "None", selector, ports, fields.place)


def _port(fields: Fields, service: Fields) -> Port:
    fields.ignore("name", "appProtocol")
    protocol = fields.one_of("protocol", PROTOCOLS, "TCP")
    port = fields.number("port", 0, 1, 65535)
    if not fields.has("port"):
        fields.wrong(f"{fields.path}.port is missing")
    node = fields.take("targetPort")
    target = node.value if node else port
    if isinstance(target, bool) or not isinstance(target, int | str):
        service.wrong(f"{fields.path}.targetPort must be a number or a name")
        target = port
    elif isinstance(target, int) and node and not 0 < target < 65536:
        service.wrong(f"{fields.path}.targetPort must be a number from 1 to 65535, or a name", node.place)
        target = port
    return Port(port, target, fields.number("nodePort", 0, 0, 65535), protocol, fields.place)


@dataclass(slots=True)
class Reach:
    """How one pod is reached by the services that choose it."""

    aliases: list[str] = field(default_factory=list)
    forwards: dict[int, int] = field(default_factory=dict)
    """Ports of the pod that lead on to others of it."""
    published: list[Published] = field(default_factory=list)


def reach(
    pod: str,
    services: Iterable[Service],
    ports: Mapping[str, int],
    taken: Sequence[int],
    problems: Problems,
    *,
    host: bool,
) -> Reach:
    """What `services`, which choose the pod, make of it. `ports` are its containers' by name, `taken` all of theirs."""
    made = Reach()
    for service in services:
        first = not service.pods
        service.pods.append(pod)
        if host:
            problems.cannot(
                service.place, f"{service.about}: pod {pod} has the computer's network, where it has no name"
            )
            continue
        made.aliases += service.aliases
        for port in service.ports:
            target = ports.get(port.target, 0) if isinstance(port.target, str) else port.target
            if not target:
                problems.refuse(port.place, f"{service.about}: pod {pod} has no port named {port.target}")
                continue
            if target != port.port and not service.headless:
                _forward(made, service, port, target, pod, taken, problems)
            if service.kind != "ClusterIP":
                if first:
                    host_port = port.node_port if service.kind == "NodePort" else port.port
                    made.published.append(Published(target, port.protocol.lower(), host_port, "", service.name))
                else:
                    text = f"{service.about}: on localhost it leads to pod {service.pods[0]} alone, not to {pod}"
                    problems.note(port.place, text)
    return made


def _forward(
    made: Reach, service: Service, port: Port, target: int, pod: str, taken: Sequence[int], problems: Problems
) -> None:
    """The pod's own container listens at the service's port, and leads to the target."""
    if port.protocol != "TCP":
        text = f"{service.about}: port {port.port} leads to {target}, which is not supported by {port.protocol}"
        problems.cannot(port.place, text)
    elif port.port in taken or made.forwards.get(port.port, target) != target:
        text = (
            f"{service.about}: port {port.port} is to lead to {target}, but pod {pod} has another use for {port.port}"
        )
        problems.cannot(port.place, text)
    else:
        made.forwards[port.port] = target


def without_pods(services: Iterable[Service], problems: Problems) -> None:
    for service in services:
        if not service.pods and service.selector:
            problems.cannot(service.place, f"{service.about}: no pod of these manifests has its labels")


def same_names(services: Sequence[Service], problems: Problems) -> None:
    """One network is for all namespaces: names are to be different."""
    seen: dict[str, Service] = {}
    for service in services:
        if (other := seen.setdefault(service.name, service)) is not service and other.namespace != service.namespace:
            problems.cannot(service.place, f"{service.about}: namespace {other.namespace} has one of that name, too")


def published(pods: Sequence[Pod], problems: Problems) -> None:
    """A port of an address of the computer leads to one port of one pod: the second one is left without."""
    seen: dict[tuple[str, int], list[tuple[str, tuple[str, int]]]] = {}
    for pod in pods:
        kept = []
        for each in pod.published:
            own = pod.name, each.container
            taken = seen.setdefault((each.protocol, each.host), []) if each.host else []
            others = (found for address, found in taken if found != own and _meet(address, each.address))
            other, its = next(others, own)
            if (other, its) == own:
                taken.append((each.address, own))
                kept.append(each)
            elif other == pod.name:
                text = (
                    f"port {each.host} of this computer cannot lead to both {its} and {each.container} of pod {other}"
                )
                problems.cannot(pod.place, f"{pod.owner}: {text}")
            else:
                text = f"port {each.host} of this computer cannot be both pod {other}'s and pod {pod.name}'s"
                problems.cannot(pod.place, f"{pod.owner}: {text}")
        pod.published = kept


def _meet(one: str, other: str) -> bool:
    """Whether what is published on the one address is in the way of what is to be on the other."""
    return one == other or bool(EVERY_ADDRESS & {one, other})
