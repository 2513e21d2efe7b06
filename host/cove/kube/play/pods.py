"""A pod's spec becomes a container of its own, which holds what the others share, and those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cove.kube.play import containers, probes, services
from cove.kube.play.configs import Configs
from cove.kube.play.containers import RESTARTS, Ports, Security, Surroundings
from cove.kube.play.environment import Facts
from cove.kube.play.fields import Fields
from cove.kube.play.plan import OBJECT, POD, ROLE, Body, Pod, Volume
from cove.kube.play.problems import Place
from cove.kube.play.services import Service
from cove.kube.play.storage import NAME, Storage

PAUSE = "cove/starter"
"""The image of pods' own containers, which each machine has."""
LONGEST_HOSTNAME = 63
MAX_FILES = 64 << 20
"""Bytes in a pod's files of ConfigMaps and Secrets, which are one archive."""


@dataclass
class World:
    """What a play has beside its pods."""

    labels: dict[str, str]
    network: str
    configs: Configs = field(default_factory=Configs)
    claims: dict[tuple[str, str], Volume] = field(default_factory=dict)
    wanted_claims: dict[str, Place] = field(default_factory=dict)
    services: list[Service] = field(default_factory=list)


@dataclass(frozen=True)
class Template:
    """A pod to be: what is said of it, whose it is, and how it restarts when it does not say."""

    owner: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Fields
    restarts: tuple[str, ...] = tuple(RESTARTS)


def read(name: str, template: Template, world: World) -> Pod:
    spec = template.spec
    spec.ignore(
        "nodeSelector", "nodeName", "affinity", "tolerations", "topologySpreadConstraints", "schedulerName", "priority",
        "priorityClassName", "preemptionPolicy", "schedulingGates", "overhead", "enableServiceLinks", "containers",
        "initContainers", "securityContext",
    )  # fmt: skip
    if len(name) > LONGEST_HOSTNAME or not NAME.match(name.replace(".", "-")):
        spec.wrong(f"{name!r} is no name for a pod: at most {LONGEST_HOSTNAME} of a-z, 0-9 and -")
    restart = spec.text("restartPolicy", template.restarts[0])
    if restart not in template.restarts:
        spec.wrong(f"{spec.below('restartPolicy')} must be one of {', '.join(template.restarts)}, not {restart!r}")
        restart = template.restarts[0]
    account = spec.text("serviceAccountName", spec.text("serviceAccount", "default"))
    spec.ignore("serviceAccount")
    token = spec.flag("automountServiceAccountToken")
    if token or (account != "default" and token is None):
        spec.note(f"{spec.below('serviceAccountName')}: there is no API server, and no token for one")
    if spec.has("imagePullSecrets"):
        spec.ignore("imagePullSecrets")
        spec.note(f"{spec.below('imagePullSecrets')} are not used: what `cove login` knows is")
    group, security, sysctls = _security(spec)
    labels = {**template.labels, **world.labels, OBJECT: f"{template.namespace}/{template.owner}", POD: name}
    storage = Storage(
        name, template.namespace, {**world.labels, POD: name}, world.configs, world.claims, world.wanted_claims, group
    )
    storage.read(spec)
    host_network, shared = bool(spec.flag("hostNetwork")), _namespaces(name, spec)
    surroundings = Surroundings(
        name=name,
        facts=Facts(name, template.namespace, template.labels, template.annotations, account),
        configs=world.configs,
        storage=storage,
        labels=labels,
        security=security,
        host=shared,
        restart=restart,
        grace_s=spec.number("terminationGracePeriodSeconds", 30),
    )
    ports = Ports()
    inits, mains = spec.each("initContainers"), spec.each("containers")
    if not mains:
        spec.wrong(f"{spec.below('containers')} is missing")
    for each in (*inits, *mains):
        containers.read_ports(each, ports, host_network=host_network)
    pod = Pod(name, template.owner, {}, spec.place, restart)
    asked = []
    for fields, role in ((each, role) for role, some in (("init", inits), ("container", mains)) for each in some):
        made, wanted = containers.read(fields, surroundings, ports.names, role)
        if made.name in pod.names:
            fields.wrong(f"{fields.path}: the name {made.called} is there twice")
        (pod.inits if role == "init" else pod.containers).append(made)
        asked.append(wanted)
    chosen = [each for each in world.services if each.chooses(template.namespace, template.labels)]
    reach = services.reach(name, chosen, ports.names, ports.numbers, spec.problems, host=host_network)
    pod.published = [] if host_network else [*ports.published, *reach.published]
    pod.volumes, pod.entries, pod.host_paths = storage.volumes, storage.entries, storage.host_paths
    pod.ports = ports.numbers
    if sum(len(each.data or b"") for each in pod.entries) > MAX_FILES:
        spec.wrong(f"more than {MAX_FILES >> 20} MiB of files of ConfigMaps and Secrets")
    pod.needs_ip = containers.asks_for_ip(pod.all)
    pod.pause = {
        "Image": PAUSE,
        "User": "0:0",
        "Entrypoint": ["sh", "-c", _script(reach.forwards)],
        "Labels": {**labels, ROLE: "pod"},
        "StopSignal": "SIGTERM",  # not the image's SIGKILL, by which it would look like out of memory
        "StopTimeout": 2,
        "Healthcheck": probes.of_pod(asked) or {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "host" if host_network else world.network,
            "IpcMode": "host" if shared["IpcMode"] == "host" else "shareable",
            "RestartPolicy": {"Name": RESTARTS[restart] if restart == "Always" else "no"},
            "Mounts": storage.mounts,
        },
    }
    _network(name, spec, pod.pause, world.network, reach.aliases, sysctls, host=host_network)
    if shared.get("PidMode") == f"container:{name}":
        pod.pause["HostConfig"]["Init"] = True  # it takes in the orphans of all of them
    return pod


def _security(spec: Fields) -> tuple[int | None, Security, dict[str, str]]:
    fields = spec.inner("securityContext")
    if fields is None:
        return None, Security(), {}
    group = fields.integer("fsGroup")
    groups = fields.integers("supplementalGroups")
    sysctls = {each.text("name", needed=True): each.text("value", needed=True) for each in fields.each("sysctls")}
    made = containers.read_security(fields, Security(groups=(*groups, *([group] if group is not None else []))))
    return group, made, sysctls


def _namespaces(name: str, spec: Fields) -> Body:
    shared = {"NetworkMode": f"container:{name}", "IpcMode": f"container:{name}"}
    if spec.flag("hostIPC"):
        shared["IpcMode"] = "host"
    if spec.flag("hostPID"):
        shared["PidMode"] = "host"
    elif spec.flag("shareProcessNamespace"):
        shared["PidMode"] = f"container:{name}"
    if (system := spec.inner("os")) and system.text("name", needed=True) != "linux":
        spec.cannot(f"{spec.below('os')}: only linux is supported")
    if spec.flag("hostUsers") is False:
        spec.cannot(f"{spec.below('hostUsers')}: false is not supported")
    return shared


def _network(
    name: str, spec: Fields, pause: Body, network: str, aliases: list[str], sysctls: dict[str, str], *, host: bool
) -> None:
    """What the pod's own container has for all of them: names, ports, resolvers."""
    config = pause["HostConfig"]
    hostname = spec.text("hostname") or name.split(".")[0]
    extra = [
        f"{host_name}:{alias.text('ip', needed=True)}"
        for alias in spec.each("hostAliases")
        for host_name in alias.texts("hostnames") or []
    ]
    policy = spec.one_of("dnsPolicy", ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"), "ClusterFirst")
    dns = spec.inner("dnsConfig")
    if spec.flag("setHostnameAsFQDN"):
        spec.cannot(f"{spec.below('setHostnameAsFQDN')} is not supported")
    if extra:
        config["ExtraHosts"] = extra
    if dns:
        for field_name, words in (("Dns", dns.texts("nameservers")), ("DnsSearch", dns.texts("searches"))):
            if words:
                config[field_name] = words
        options = [(each.text("name", needed=True), each.text("value")) for each in dns.each("options")]
        if options:
            config["DnsOptions"] = [f"{option}:{value}" if value else option for option, value in options]
    if policy == "None" and not config.get("Dns"):
        spec.wrong(f"{spec.below('dnsPolicy')} None needs dnsConfig.nameservers")
    if sysctls:
        config["Sysctls"] = sysctls
    subdomain = spec.text("subdomain")
    if host:
        return
    pause["Hostname"] = hostname
    if subdomain:
        aliases = [*aliases, f"{hostname}.{subdomain}"]
    pause["NetworkingConfig"] = {"EndpointsConfig": {network: {"Aliases": aliases}}}


def publish(pod: Pod) -> None:
    """Put the pod's ports on this computer into the body of its own container."""
    bindings: dict[str, list[dict[str, str]]] = {}
    for each in pod.published:
        to = {"HostIp": each.address, "HostPort": str(each.host or "")}
        known = bindings.setdefault(f"{each.container}/{each.protocol}", [])
        if to not in known:
            known.append(to)
    pod.pause["ExposedPorts"] = {port: {} for port in bindings}
    pod.pause["HostConfig"]["PortBindings"] = bindings


def _script(forwards: Mapping[int, int]) -> str:
    lines = [f"nc -ll -p {port} -e nc 127.0.0.1 {target} &" for port, target in sorted(forwards.items())]
    # As PID 1 it hears of signals that it has asked for alone; sleep would not.
    return "\n".join(["trap 'exit 0' TERM", *lines, "sleep infinity & wait"])
