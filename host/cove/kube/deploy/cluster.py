"""The API of the cluster that the kubeconfig names, by the official client, whose parts are imported when one is connected to.

Objects go in and come out as the API has them, by the client's requests (`DynamicClient.request`): its models are those of one version
of Kubernetes, and its discovery keeps a file where others can write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from cove.errors import CoveError
from cove.kube.installed import check_installed
from cove.kube.shown import inset

Object = dict[str, Any]

MANAGER = "cove"
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
AGAIN_S = 1.0
"""Between the end of a watch that has not told what was waited for, and the next: something on the way may end each at once."""
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
FORBIDDEN, NOT_FOUND, CONFLICT, GONE = 403, 404, 409, 410


class Kind(NamedTuple):
    api: str
    plural: str


KINDS = {
    "ConfigMap": Kind("v1", "configmaps"),
    "Deployment": Kind("apps/v1", "deployments"),
    "Event": Kind("v1", "events"),
    "Ingress": Kind("networking.k8s.io/v1", "ingresses"),
    "Job": Kind("batch/v1", "jobs"),
    "Namespace": Kind("v1", "namespaces"),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims"),
    "Pod": Kind("v1", "pods"),
    "Secret": Kind("v1", "secrets"),
    "Service": Kind("v1", "services"),
}


class Refused(CoveError):
    """The cluster's answer to a request; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """One namespace of a cluster. Every method raises `Refused`, or `CoveError` when the cluster does not answer."""

    def __init__(self, api: Any, context: str, namespace: str) -> None:
        from kubernetes.dynamic import DynamicClient

        self.api = api
        self.context = context
        self.namespace = namespace
        self._client: Any = DynamicClient(api, discoverer=lambda client, cache_file: None)

    def path(self, kind: str, name: str = "") -> str:
        api, plural = KINDS[kind]
        place = "" if kind == "Namespace" else f"/namespaces/{quote(self.namespace, safe='')}"
        return f"/{'apis' if '/' in api else 'api'}/{api}{place}/{plural}" + (
            f"/{quote(name, safe='')}" if name else ""
        )

    def get(self, kind: str, name: str) -> Object | None:
        """None when there is none."""
        try:
            return self.ask("get", self.path(kind, name))
        except Refused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise

    def pods(self, selector: str) -> list[Object]:
        return self.ask("get", self.path("Pod"), {"labelSelector": selector}).get("items") or []

    def create(self, made: Object) -> Object:
        return self.ask("post", self.path(made["kind"]), {"fieldManager": MANAGER}, made)

    def apply(self, made: Object) -> Object:
        """Server-side, and never against another manager's will."""
        path = self.path(made["kind"], made["metadata"]["name"])
        query = {"fieldManager": MANAGER, "force": "false"}
        return self.ask("patch", path, query, made, "application/apply-patch+yaml")

    def delete(self, found: Object, policy: str = "Background") -> None:
        """The very object that was found, not one of the same name that has come since. It may be gone already."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": policy,
            "preconditions": {"uid": found["metadata"]["uid"]},
        }
        try:
            self.ask("delete", self.path(found["kind"], found["metadata"]["name"]), {}, body)
        except Refused as refused:
            if refused.status != NOT_FOUND:
                raise

    def watch(self, kind: str, query: Mapping[str, str], version: str, timeout_s: float) -> Iterator[Object]:
        """Events after `version`, until the time is over or the server ends it. Raises `Refused` with GONE for a version of long ago."""
        given = {**query, "watch": "true", "resourceVersion": version, "timeoutSeconds": str(max(1, int(timeout_s)))}
        for line in self._lines(self.path(kind), given, timeout_s):
            event: Object = json.loads(line)
            if event["type"] == "ERROR":
                status = event["object"]
                raise Refused(int(status.get("code") or 0), inset(str(status.get("message") or "the watch has failed")))
            yield event

    def logs(self, pod: str, container: str, *, lines: int, previous: bool) -> list[str]:
        """The last lines, those of its run before when it has been started anew; none when there are none to be had."""
        query = {"container": container, "tailLines": str(lines)} | ({"previous": "true"} if previous else {})
        try:
            response = self._request("get", f"{self.path('Pod', pod)}/log", query)
        except CoveError:
            return []
        return bytes(response.data).decode(errors="replace").splitlines()

    def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Object | None = None, kind: str = ""
    ) -> Object:
        response = self._request(method, path, query or {}, body, kind)
        try:
            answer: Object = json.loads(response.data)
        except ValueError as error:
            raise CoveError(
                inset(f"the cluster {self.context} answered {path} with something that is not JSON")
            ) from error
        return answer

    def _lines(self, path: str, query: Mapping[str, str], timeout_s: float) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        # The server ends a watch by itself: what comes later than that is a cluster that is gone.
        response = self._request("get", path, query, timeouts=(TIMEOUT_S[0], timeout_s + TIMEOUT_S[1]))
        pending = b""
        try:
            for piece in response.stream(amt=None, decode_content=True):
                *lines, pending = (pending + piece).split(b"\n")
                yield from (line for line in lines if line.strip())
        except HTTPError:
            return  # broken off on the way, which is an end as any other: who watches lists anew, and sees whether the cluster is there
        finally:
            response.close()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        kind: str = "",
        timeouts: tuple[float, float] = TIMEOUT_S,
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return self._client.request(
                method,
                path,
                body=body,
                query_params=list(query.items()),
                content_type=kind or None,
                serialize=False,
                _request_timeout=timeouts,
            )
        except ApiException as error:
            raise _refused(error, self.context) from error
        except (HTTPError, OSError) as error:
            raise CoveError(
                inset(f"the cluster {self.context} does not answer: {getattr(error, 'reason', None) or error}"),
                "see whether it runs, and which one it is: kubectl config current-context",
            ) from error


def connect(kubeconfig: str, context: str, namespace: str) -> Cluster:
    """`""` for what the kubeconfig says itself. Raises `CoveError`."""
    check_installed("kubernetes")
    import yaml
    from kubernetes import config
    from kubernetes.config.config_exception import ConfigException

    try:
        contexts, active = config.list_kube_config_contexts(kubeconfig or None)
        chosen = next((one for one in contexts if one["name"] == context), None) if context else active
        if chosen is None:
            known = ", ".join(sorted(one["name"] for one in contexts))
            raise CoveError(inset(f"the kubeconfig has no context {context}"), inset(f"it has: {known}"))
        api = config.new_client_from_config(kubeconfig or None, chosen["name"])
        namespace = str(namespace or chosen["context"].get("namespace") or "default")
    except ConfigException as error:
        raise CoveError(
            inset(f"no cluster is configured: {error}"),
            "a kubeconfig names one: --kubeconfig, or KUBECONFIG, or else ~/.kube/config",
        ) from error
    except (yaml.YAMLError, OSError, TypeError, ValueError, LookupError, AttributeError) as error:
        # What the client makes of a file that is not as it expects; it does not check.
        raise CoveError(
            inset(f"the kubeconfig cannot be read: {error}"),
            "see what kubectl says of it: kubectl config view",
        ) from error
    if not _NAMESPACE.fullmatch(namespace):
        raise CoveError(f"{namespace!r} is no name of a namespace: at most 63 of a-z, 0-9 and -")
    return Cluster(api, chosen["name"], namespace)


def _refused(error: Any, context: str) -> Refused:
    status = int(error.status or 0)
    body = error.body if isinstance(error.body, str | bytes) else ""
    try:
        told = json.loads(body)
        message = str(told["message"])
    except (ValueError, KeyError, TypeError):
        message = (body.decode(errors="replace") if isinstance(body, bytes) else body).strip() or str(error.reason)
    return Refused(status, inset(f"the cluster {context}: {message}"))
