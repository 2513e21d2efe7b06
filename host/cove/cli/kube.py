"""`cove kube`: to Kubernetes and from it (docs/kubernetes.md, docs/kube-play.md)."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click

from cove.cli import as_json as json_output
from cove.cli import kube_sources
from cove.cli.clicked import Group
from cove.cli.command import Context


@click.group("kube", cls=Group)
def group() -> None:
    """Carry containers to Kubernetes, and run its pods here"""


if find_spec("cove.cli.kube_play") is not None:
    group.add_command(import_module("cove.cli.kube_play").play)


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
def generate(context: Context, output: str, as_json: bool, **asked: Any) -> int:
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
