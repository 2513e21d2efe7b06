"""A model of a Kubernetes API server, over real HTTP, for the real client: what the API conventions say of what Cove asks for.

Server-side apply (fields and their managers; lists are taken as a whole), optimistic versions, watches with their history, label and
field selectors, preconditions and propagation of deletions, discovery, logs, and port forwarding over a websocket. What is applied is
held against the official schemas. In place of controllers and kubelets there is `Model.run`, which tests may replace.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import port_forwarding

Object = dict[str, Any]

TOKEN = "of-a-user"
GROUPS = {
    "v1": ("configmaps", "events", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services"),
    "apps/v1": ("deployments", "replicasets"),
    "batch/v1": ("jobs",),
    "example.com/v1": ("widgets",),
    "example.com/v1beta1": ("gadgets",),
    "networking.k8s.io/v1": ("ingresses",),
}
KINDS = {
    "configmaps": "ConfigMap", "deployments": "Deployment", "events": "Event", "gadgets": "Gadget",
    "ingresses": "Ingress", "jobs": "Job", "namespaces": "Namespace", "persistentvolumeclaims": "PersistentVolumeClaim",
    "pods": "Pod", "replicasets": "ReplicaSet", "secrets": "Secret", "serviceaccounts": "ServiceAccount", "services": "Service",
    "widgets": "Widget",
}  # fmt: skip
API_OF = {KINDS[plural]: group for group, plurals in GROUPS.items() for plural in plurals} | {"Namespace": "v1"}
SCHEMA = "1.33"
_FIELDS = ("metadata.name", "involvedObject.kind", "involvedObject.name", "involvedObject.uid", "type")
"""Of field selectors."""
Key = tuple[str, str, str]
"""(plural, namespace, name)"""


class Failure(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
            "code": code,
        }  # fmt: skip


def pod_status(ready: bool = True, phase: str = "Running", **container: Any) -> Object:
    """Of a pod with one container."""
    return {
        "phase": phase,
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": "web", "ready": ready, "restartCount": 0, **container}],
    }


class Model:
    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.owners: dict[Key, dict[str, set[tuple[str, ...]]]] = {}
        self.history: list[tuple[int, str, Key, Object]] = []
        self.forgotten = 0
        """Watches from before this version cannot be had any more."""
        self.requests: list[tuple[str, str]] = []
        self.token = TOKEN
        """Empty: kubectl sends none without TLS."""
        self.logs: dict[tuple[str, bool], str] = {}
        self.targets: dict[int, int] = {}
        """A pod's port -> a port of this computer."""
        self.forbidden: set[str] = set()
        """Plurals that the user may not see."""
        self.broken: set[str] = set()
        """Versions of groups whose own servers do not answer."""
        self.changed = threading.Condition(threading.RLock())
        self.closed = False
        self._version = itertools.count(1)
        self._names = itertools.count(1)
        self.version = 0
        self.run: Callable[[Model, Object], None] = Model.all_run
        self.create({"kind": "Namespace", "metadata": {"name": "default"}})

    # What tests do and look at

    def get(self, kind: str, name: str, namespace: str = "default") -> Object:
        return self.objects[_key(kind, name, namespace)]

    def has(self, kind: str, name: str, namespace: str = "default") -> bool:
        return _key(kind, name, namespace) in self.objects

    def of(self, kind: str) -> list[Object]:
        with self.changed:
            return [one for one in self.objects.values() if one["kind"] == kind]

    def create(self, made: Object, namespace: str = "default") -> Object:
        with self.changed:
            metadata = {"namespace": namespace, **made["metadata"]}
            if made["kind"] == "Namespace":
                metadata.pop("namespace")
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
            made = {"apiVersion": API_OF[made["kind"]], **made, "metadata": metadata}
            key = _key(made["kind"], metadata["name"], namespace)
            if key in self.objects:
                raise Failure(409, "AlreadyExists", f'{key[0]} "{key[2]}" already exists')
            self._put(key, made, "ADDED")
            if made["kind"] == "Namespace":
                own = metadata["name"]
                self.create({"kind": "ServiceAccount", "metadata": {"name": "default"}}, own)
                self.create({"kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}, own)
            return made

    def change(self, kind: str, name: str, change: Callable[[Object], None], namespace: str = "default") -> None:
        with self.changed:
            key = _key(kind, name, namespace)
            made = copy.deepcopy(self.objects[key])
            change(made)
            self._put(key, made, "MODIFIED")

    def take_over(self, kind: str, name: str, manager: str, path: tuple[str, ...], value: Any) -> None:
        """As another client's update of one field, which becomes that client's."""

        def change(made: Object) -> None:
            _set(made, path, value)
            made["metadata"]["generation"] += 1

        self.change(kind, name, change)
        owners = self.owners.setdefault(_key(kind, name, "default"), {})
        for paths in owners.values():
            paths.discard(path)
        owners.setdefault(manager, set()).add(path)

    def remove(self, key: Key) -> None:
        with self.changed:
            found = self.objects.pop(key)
            self.owners.pop(key, None)
            for other, one in list(self.objects.items()):
                references = one["metadata"].get("ownerReferences") or ()
                owned = any(ref["uid"] == found["metadata"]["uid"] for ref in references)
                inside = key[0] == "namespaces" and other[1] == key[2]
                if (owned or inside) and other in self.objects:
                    self.remove(other)
            self._note("DELETED", key, found)

    def compact(self) -> None:
        """What was before is forgotten, as by etcd every few minutes."""
        with self.changed:
            self.forgotten = self.version

    def pods_of(self, owner: Object, status: Object | None = None) -> list[Object]:
        """Make those that its template asks for, as its controller would."""
        template, metadata = owner["spec"]["template"], owner["metadata"]
        made = []
        for _ in range(owner["spec"].get("replicas", owner["spec"].get("completions", 1))):
            pod = {
                "kind": "Pod",
                "metadata": {
                    **template["metadata"],
                    "name": f"{metadata['name']}-{next(self._names)}",
                    "ownerReferences": [{"kind": owner["kind"], "uid": metadata["uid"], "name": metadata["name"]}],
                },
                "spec": template["spec"],
                "status": status or pod_status(),
            }
            made.append(self.create(pod, metadata["namespace"]))
        return made

    def all_run(self, owner: Object) -> None:
        """The pods of a Deployment run, those of a Job end."""
        for pod in self.of("Pod"):
            if pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]:
                self.remove(_key("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"]))
        self.pods_of(owner, None if owner["kind"] == "Deployment" else pod_status(False, "Succeeded"))
        self.settle(owner)

    def settle(self, owner: Object) -> None:
        """The status of what has all that it asks for."""
        count = owner["spec"].get("replicas", 1)
        generation = owner["metadata"]["generation"]
        status: Object = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        if owner["kind"] == "Deployment":
            counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
            status = {"observedGeneration": generation, **counts}
        metadata = owner["metadata"]
        self.change(owner["kind"], metadata["name"], lambda made: made.update(status=status), metadata["namespace"])

    # What the server does

    def _put(self, key: Key, made: Object, change: str) -> None:
        self.objects[key] = made
        self._note(change, key, made)

    def _note(self, change: str, key: Key, made: Object) -> None:
        self.version = next(self._version)
        made["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, change, key, copy.deepcopy(made)))
        self.changed.notify_all()

    def apply(self, key: Key, body: Object, query: dict[str, str]) -> Object:
        with self.changed:
            manager = query.get("fieldManager")
            if not manager:
                raise Failure(400, "BadRequest", "fieldManager is required for apply patch")
            if body.get("kind") != "Namespace" and _key("Namespace", key[1], "") not in self.objects:
                raise Failure(404, "NotFound", f'namespaces "{key[1]}" not found')
            if body.get("apiVersion") != API_OF[KINDS[key[0]]] or body["metadata"].get("name") != key[2]:
                raise Failure(400, "BadRequest", "the object in the request does not match the path")
            if "managedFields" in body["metadata"]:
                raise Failure(400, "BadRequest", "metadata.managedFields must be nil")
            try:
                kubernetes_validate.validate(body, SCHEMA, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise Failure(422, "Invalid", f"{key[0]} {key[2]} is invalid: {error.message}") from error
            return self._merged(key, body, manager, force=query.get("force") == "true")

    def _merged(self, key: Key, body: Object, manager: str, *, force: bool) -> Object:
        before = self.objects.get(key)
        owners = self.owners.setdefault(key, {})
        wanted = {path: value for path, value in _leaves(body) if path[0] not in ("apiVersion", "kind")}
        if before is None:
            made = copy.deepcopy(body)
            _default(made)
            made = self.create(made, key[1])
        else:
            conflicts = [
                (other, path)
                for path, value in wanted.items()
                for other, paths in owners.items()
                if other != manager and path in paths and _get(before, path) != value
            ]
            if conflicts and not force:
                told = "; ".join(f'conflict with "{other}": .{".".join(path)}' for other, path in conflicts)
                raise Failure(409, "Conflict", f"Apply failed with {len(conflicts)} conflict: {told}")
            made = copy.deepcopy(before)
            for path in owners.get(manager, set()) - set(wanted):
                if not any(path in paths for other, paths in owners.items() if other != manager):
                    _drop(made, path)
            for path, value in wanted.items():
                _set(made, path, copy.deepcopy(value))
            self._check_immutable(before, made)
            _default(made)
            if made.get("spec") != before.get("spec"):
                made["metadata"]["generation"] += 1
            if made != before:
                self._put(key, made, "MODIFIED")
        owners[manager] = set(wanted)
        if made["kind"] in ("Deployment", "Job") and (before is None or before["spec"] != made["spec"]):
            self.run(self, made)
        return self.objects[key]

    def _check_immutable(self, before: Object, made: Object) -> None:
        fields = {
            "Deployment": [("spec", "selector")],
            "Job": [("spec", "template"), ("spec", "completions")],
            "Service": [("spec", "clusterIP")],
        }
        strategy = made.get("spec", {}).get("strategy") or {}
        if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
            raise Failure(422, "Invalid", "spec.strategy.rollingUpdate: Forbidden: may not be specified with Recreate")
        for path in fields.get(made["kind"], []):
            if _get(before, path) != _get(made, path):
                raise Failure(422, "Invalid", f"{'.'.join(path)}: Invalid value: field is immutable")

    def delete(self, key: Key, options: Object) -> Object:
        with self.changed:
            found = self.objects.get(key)
            if found is None:
                raise Failure(404, "NotFound", f'{key[0]} "{key[2]}" not found')
            uid = (options.get("preconditions") or {}).get("uid")
            if uid is not None and uid != found["metadata"]["uid"]:
                raise Failure(409, "Conflict", "the UID in the precondition is another one")
            if found["metadata"].get("finalizers"):
                self._put(key, {**found, "metadata": {**found["metadata"], "deletionTimestamp": "now"}}, "MODIFIED")
            else:
                self.remove(key)
            return found

    def list(self, plural: str, namespace: str, query: dict[str, str]) -> Object:
        with self.changed:
            items = [
                # As the API's lists: their items do not say of what kind they are.
                {name: value for name, value in one.items() if name not in ("apiVersion", "kind")}
                for key, one in sorted(self.objects.items())
                if key[0] == plural and key[1] == namespace and _is_selected(one, query)
            ]
            kind, metadata = KINDS[plural], {"resourceVersion": str(self.version)}
            return {"kind": f"{kind}List", "apiVersion": API_OF[kind], "metadata": metadata, "items": items}

    def watch(self, plural: str, namespace: str, query: dict[str, str]) -> Iterator[Object]:
        seen = int(query.get("resourceVersion") or 0)
        deadline = time.monotonic() + float(query["timeoutSeconds"])
        while True:
            with self.changed:
                if seen < self.forgotten:
                    yield {
                        "type": "ERROR",
                        "object": Failure(410, "Expired", f"too old resource version: {seen}").status,
                    }
                    return
                events = [one for one in self.history if one[0] > seen]
                if not events:
                    left = deadline - time.monotonic()
                    if left <= 0 or self.closed:
                        return
                    self.changed.wait(left)
                    continue
            for version, change, key, made in events:
                seen = version
                if key[0] == plural and key[1] == namespace and _is_selected(made, query):
                    yield {"type": change, "object": made}


def _default(made: Object) -> None:
    """What the server says where nothing is said."""
    if made["kind"] == "Service":
        made["spec"].setdefault("clusterIP", "10.0.0.7")
    elif made["kind"] == "Deployment":
        strategy = made["spec"].setdefault("strategy", {"type": "RollingUpdate"})
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {"maxSurge": "25%", "maxUnavailable": "25%"})


def _key(kind: str, name: str, namespace: str) -> Key:
    plural = next(plural for plural, one in KINDS.items() if one == kind)
    return plural, "" if kind == "Namespace" else namespace, name


def _leaves(value: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, one in value.items():
        if isinstance(one, dict) and one:
            yield from _leaves(one, (*path, name))
        else:
            yield (*path, name), one


def _get(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _set(value: Object, path: tuple[str, ...], leaf: Any) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    value[path[-1]] = leaf


def _drop(value: Object, path: tuple[str, ...]) -> None:
    for name in path[:-1]:
        value = value.get(name) or {}
    value.pop(path[-1], None)


def _is_selected(one: Object, query: dict[str, str]) -> bool:
    labels = one["metadata"].get("labels") or {}
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    fields = [pair.split("=") for pair in query.get("fieldSelector", "").split(",") if pair]
    return all(labels.get(name) == value for name, value in wanted) and all(
        _field(one, name) == value for name, value in fields
    )


def _field(one: Object, path: str) -> Any:
    assert path in _FIELDS
    for name in path.split("."):
        one = one.get(name, {})
    return one


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are sent one after the other
    model: Model

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.model.requests.append((self.command, self.path))
        try:
            if self.model.token and self.headers.get("Authorization") != f"Bearer {self.model.token}":
                raise Failure(401, "Unauthorized", "Unauthorized")
            self._do(parts.path, query, json.loads(body) if body else {})
        except Failure as failure:
            self._send(failure.status, failure.status["code"])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _do(self, path: str, query: dict[str, str], body: Object) -> None:
        words = path.strip("/").split("/")
        if path == "/apis":
            versions: dict[str, list[Object]] = {}
            for one in GROUPS:
                if "/" in one:
                    versions.setdefault(one.split("/")[0], []).append(
                        {"groupVersion": one, "version": one.split("/")[1]}
                    )
            groups = [{"name": name, "versions": its, "preferredVersion": its[0]} for name, its in versions.items()]
            return self._send({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        if path == "/api":
            return self._send({"kind": "APIVersions", "versions": ["v1"]})
        group, rest = ("v1", words[2:]) if words[0] == "api" else ("/".join(words[1:3]), words[3:])
        if group not in GROUPS:
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if group in self.model.broken:
            raise Failure(503, "ServiceUnavailable", "service unavailable")
        if not rest:
            verbs = ["create", "delete", "get", "list", "patch", "watch"]
            resources = [
                {"name": name, "singularName": "", "kind": KINDS[name], "namespaced": True, "verbs": verbs}
                for name in GROUPS[group]
            ]
            others = _OTHER_RESOURCES if group == "v1" else []
            return self._send(
                {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": group,
                    "resources": [*resources, *others],
                }
            )
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        plural, *more = rest
        if plural not in (*GROUPS[group], "namespaces"):
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        if plural in self.model.forbidden:
            raise Failure(403, "Forbidden", f'{plural} is forbidden: User "u" cannot list resource "{plural}"')
        if more[1:] == ["log"]:
            return self._send_log(more[0], query)
        if more[1:] == ["portforward"]:
            return port_forwarding.serve(self, int(query["ports"]), self.model.targets)
        return self._on(plural, namespace, more[0] if more else "", query, body)

    def _on(self, plural: str, namespace: str, name: str, query: dict[str, str], body: Object) -> None:
        model, key = self.model, (plural, namespace, name)
        if self.command == "GET" and not name:
            if query.get("watch") == "true":
                return self._stream(model.watch(plural, namespace, query))
            return self._send(model.list(plural, namespace, query))
        if self.command == "GET":
            if key not in model.objects:
                raise Failure(404, "NotFound", f'{plural} "{name}" not found')
            return self._send(model.objects[key])
        if self.command == "POST":
            return self._send(model.create(body, namespace), 201)
        if self.command == "DELETE":
            return self._send(model.delete(key, body))
        if self.headers["Content-Type"] != "application/apply-patch+yaml":
            raise Failure(415, "UnsupportedMediaType", "only server-side apply is modelled")
        return self._send(model.apply(key, body, query))

    def _send(self, value: Object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_log(self, pod: str, query: dict[str, str]) -> None:
        text = self.model.logs.get((pod, query.get("previous") == "true"))
        if text is None:
            raise Failure(400, "BadRequest", "previous terminated container not found")
        data = "".join(text.splitlines(keepends=True)[-int(query["tailLines"]) :]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[Object]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            # In two pieces: a line need not come in one.
            for piece in (line[:9], line[9:]):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has gone is none
            super().handle_error(request, address)


_OTHER_RESOURCES = [
    {"name": "pods/log", "singularName": "", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
    {"name": "namespaces", "singularName": "", "kind": "Namespace", "namespaced": False, "verbs": ["get", "list"]},
    {"name": "bindings", "singularName": "", "kind": "Binding", "namespaced": True, "verbs": ["create"]},
]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[Model, Path]]:
    """A cluster, and a kubeconfig that leads to it."""
    model = Model()
    handler = type("Handler", (_Handler,), {"model": model})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    kubeconfig = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "model",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [
            {"name": "model", "context": {"cluster": "c", "user": "u"}},
            {"name": "other", "context": {"cluster": "c", "user": "u", "namespace": "elsewhere"}},
        ],
    }
    kubeconfig.write_text(json.dumps(config))
    try:
        yield model, kubeconfig
    finally:
        with model.changed:
            model.closed = True
            model.changed.notify_all()
        server.shutdown()
        server.server_close()
        thread.join(10)
