"""`cove kube`: to Kubernetes and from it (docs/kubernetes.md, docs/kube-play.md)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from cove.cli import as_json as json_output
from cove.cli import kube_sources
from cove.cli.clicked import Group, Integer, switch
from cove.cli.command import Context
from cove.cli.kube_play import play
from cove.kube.shown import shown

if TYPE_CHECKING:
    from cove.kube.deploy.cluster import Cluster
    from cove.kube.generate.model import Application


@click.group("kube", cls=Group)
def group() -> None:
    """Carry containers to Kubernetes, and run its pods here"""


group.add_command(play)


@group.command(
    "generate",
    short_help="Write Kubernetes' manifests for containers or a compose file",
    help="Write Kubernetes' manifests for containers or a compose file\n\n"
    "Without containers it is the compose file that -f names, or that docker compose finds.\n"
    "What cannot be carried to Kubernetes is told on STDERR before anything is written.",
)
@kube_sources.options
@click.option("--output", "-o", default="", help="Write to a file, instead of STDOUT")
@json_output.option
@click.pass_obj
def generate(context: Context, /, output: str, as_json: bool, **asked: Any) -> int:
    from cove.cli.output import check_file, write_file, write_stdout
    from cove.kube.generate import manifests
    from cove.kube.installed import check_installed

    if not as_json:
        check_installed("yaml")
    if output:
        check_file(output, "failed to write the manifests")
    wanted = kube_sources.Asked(**asked)
    options = kube_sources.manifest_options(wanted)
    application = kube_sources.application(context, wanted)
    objects = manifests.objects(application, options)
    kube_sources.tell(application.notes, strict=wanted.strict)
    if as_json:
        import json

        document = {
            "application": application.name,
            "namespace": wanted.namespace or None,
            "objects": objects,
            "notes": kube_sources.notes_json(application.notes),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    else:
        from cove.kube.generate import written

        text = written.documents(objects)
    if output:
        write_file(output, [text.encode()])
    else:
        write_stdout([text.encode()])
    return 0


_CLUSTER = (
    click.option("--context", "kube_context", default="", help="Context of the kubeconfig"),
    click.option("--kubeconfig", default="", help="Kubeconfig (KUBECONFIG, else ~/.kube/config)"),
    click.option("--timeout", type=Integer(), default="300", help="Seconds to wait for the cluster"),
)


def _of_a_cluster(command: Any) -> Any:
    for decorate in reversed(_CLUSTER):
        command = decorate(command)
    return command


def _say(text: str) -> None:
    print(shown(text), file=sys.stderr, flush=True)


@group.command(
    "deploy",
    short_help="Run containers or a compose file on the cluster of the current kubeconfig",
    help="Run containers or a compose file on the cluster of the current kubeconfig\n\n"
    "Images are pushed, what `cove kube generate` writes is applied, and waited for until it runs. Published\n"
    "ports are on localhost then, until Ctrl-C ends that; what runs stays, until `cove kube down` removes it.",
)
@kube_sources.options
@_of_a_cluster
@switch("--detach", "-d", help="Do not put published ports on localhost")
@click.option("--registry", default="", help="Push images to HOST/PREFIX, and run them from there")
@json_output.option
@click.pass_obj
def deploy(
    context: Context,
    /,
    kube_context: str,
    kubeconfig: str,
    timeout: int,
    detach: bool,
    registry: str,
    as_json: bool,
    **asked: Any,
) -> int:
    from dataclasses import replace

    from cove.cli import kube_images
    from cove.kube.generate import manifests
    from cove.kube.installed import check_installed

    check_installed("kubernetes")
    from cove.kube.deploy import applying, cluster, record, rollout

    wanted = kube_sources.Asked(**asked)
    options = kube_sources.manifest_options(wanted)
    application = kube_sources.application(context, wanted)
    manifests.objects(application, options)  # mistakes are told before anything is done
    kube_sources.tell(application.notes, strict=wanted.strict)
    place = cluster.connect(kubeconfig, kube_context, wanted.namespace)
    record.read(place, application.name)  # a cluster that does not answer is told before images are pushed for it
    digests = kube_images.pushed(context, application.workloads, registry)
    objects = manifests.objects(application, replace(options, namespace=place.namespace, digests=digests))
    _say(f"application {application.name}: namespace {place.namespace} of {place.context}")
    applied = applying.apply(place, application.name, objects, _say, timeout)
    running = rollout.Rollout(place, application.name, applied, _say).wait(timeout)
    for name in running:
        _say(f"Job {name} runs, and has not ended yet")
    document = {
        "application": application.name,
        "context": place.context,
        "namespace": place.namespace,
        "images": [{"image": image, "pushed": name} for image, name in sorted(digests.items())],
        "objects": [{"kind": one["kind"], "name": one["metadata"]["name"]} for one in applied],
        "running_jobs": running,
        "notes": kube_sources.notes_json(application.notes),
    }
    return _forwarded(place, application, document, as_json, detach=detach)


def _forwarded(
    place: Cluster, application: Application, document: dict[str, Any], as_json: bool, *, detach: bool
) -> int:
    """Tell what was done, and keep published ports on localhost until Ctrl-C."""
    from cove.kube.deploy import forward

    published = [(one, port) for one in application.workloads for port in one.ports if port.published is not None]
    for workload, port in published:
        if port.protocol != "tcp" and not detach:
            _say(f"{workload.name}:{port.number}/{port.protocol} is not put on localhost: Kubernetes forwards TCP only")
    wanted = [
        forward.Forward(workload.name, port.number, port.published or 0)
        for workload, port in published
        if port.protocol == "tcp" and not detach
    ]
    forwarder = forward.Forwarder(place, application.name, wanted, _say) if wanted else None
    places = forwarder.places if forwarder is not None else []
    if as_json:
        rows = [
            {"workload": one.workload, "port": one.port, "address": f"{forward.LOCALHOST}:{one.local}"}
            for one in places
        ]
        json_output.show({**document, "forwards": rows})
    else:
        print(f"{application.name} runs in namespace {place.namespace}")
        for one in places:
            print(f"{forward.LOCALHOST}:{one.local} is {one.workload}:{one.port}")
    sys.stdout.flush()
    if forwarder is None:
        return 0
    try:
        _say(f"Ctrl-C ends the forwarding; cove kube down {application.name} removes the application")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0
    finally:
        forwarder.close()


@group.command(
    "down",
    short_help="Remove from a cluster what `kube deploy` has made there",
    help="Remove from a cluster what `kube deploy` has made there, and nothing else\n\n"
    "Volumes stay, with what is in them, without --volumes; the namespace goes when it was made for the\n"
    "application and has nothing else.",
)
@click.argument("application", metavar="APPLICATION")
@_of_a_cluster
@click.option("--namespace", "-n", default="", help="Namespace of the application")
@switch("--volumes", "-v", help="Remove volumes, too")
@json_output.option
def down(
    application: str, kube_context: str, kubeconfig: str, timeout: int, namespace: str, volumes: bool, as_json: bool
) -> int:
    from cove.kube.installed import check_installed

    check_installed("kubernetes")
    from cove.kube.deploy import cluster
    from cove.kube.deploy.down import down as remove

    place = cluster.connect(kubeconfig, kube_context, namespace)
    removed, kept = remove(place, application, volumes=volumes, report=_say, limit_s=timeout)
    words = f"{application} is removed from namespace {place.namespace}"
    rows = {
        name: [{"kind": one.kind, "name": one.name} for one in entries]
        for name, entries in (("removed", removed), ("kept", kept))
    }
    json_output.told(as_json, words, application=application, namespace=place.namespace, **rows)
    return 0
