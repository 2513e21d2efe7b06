"""`cove kube play`: manifests of Kubernetes on this engine (docs/kube-play.md)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command, switch
from cove.cli.command import Context
from cove.cli.errors import CliError, os_error_text
from cove.kube.shown import shown
from cove.plain import printable

if TYPE_CHECKING:
    from cove.kube.play.documents import Node
    from cove.kube.play.engine import Engine
    from cove.kube.play.plan import Plan
    from cove.kube.play.run import Result

STDIN = "-"
SUFFIXES = (".yaml", ".yml", ".json")
"""Of manifests in a folder, as kubectl knows them."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?\Z")


@click.command(
    "play",
    cls=Command,
    short_help="Run Kubernetes' manifests on this engine",
    help="Run Kubernetes' manifests on this engine\n\n"
    "Pods, Deployments, Jobs, ConfigMaps, Secrets, PersistentVolumeClaims and Services of a file,\n"
    "or of all in a folder (- is STDIN). What cannot be done is named, with its line, before anything is started.",
)
@click.argument("file", metavar="FILE")
@click.option("--configmap", multiple=True, metavar="FILE", help="A file with further ConfigMaps or Secrets")
@switch("--down", help="Remove what a play of the file has made, but for its claims")
@switch("--ignore-unsupported", help="Start without what cannot be done")
@click.option("--name", "-n", default="", help="Name of the play (default: the file's)")
@click.option("--publish", "-p", multiple=True, help="Publish a pod's port, [[IP:]PORT:]PORT[/udp]")
@switch("--quiet", "-q", help="Tell of errors alone")
@switch("--replace", help="Remove an earlier play of the file first, but for its claims")
@click.option("--start", type=click.BOOL, default=True, help="Start what is made (--start=false: make it alone)")
@click.option(
    "--timeout", type=click.FloatRange(0), default=0.0, help="Seconds for all to start, and jobs to end (0: any)"
)
@switch("--volumes", help="With --down: remove the claims' volumes as well")
@json_output.option
@click.pass_obj
def play(context: Context, /, file: str, name: str, down: bool, volumes: bool, as_json: bool, **asked: Any) -> int:
    from cove.cli.kube_engine import ClientEngine

    path = file if file == STDIN else str(Path(file).resolve())
    called = _name(file, name)
    if down:
        wrong = [f"--{option}" for option in ("replace", "publish", "configmap") if asked[option]]
        if wrong:
            raise CliError(f"cove: --down goes without {wrong[0]}")
        missing = file if file != STDIN and not name and not Path(file).exists() else ""
        engine = ClientEngine(context.engine)
        say = _sayer(quiet=asked["quiet"])
        return _down(engine, called, path, say, missing=missing, named=bool(name), volumes=volumes, as_json=as_json)
    if volumes:
        raise CliError("cove: --volumes goes with --down")
    return _play(context, file, path, called, named=bool(name), as_json=as_json, **asked)


def _name(file: str, name: str) -> str:
    if name:
        if not _NAME.match(name):
            raise CliError(f"cove: {name!r} is no name for a play: up to 40 of a-z, 0-9 and -")
        return name
    path = Path("stdin") if file == STDIN else Path(file).resolve()
    own = path.stem if path.suffix in SUFFIXES else path.name
    made = re.sub(r"[^a-z0-9]+", "-", own.lower())[:40].strip("-")
    if not made:
        raise CliError(f"cove: no name can be made of {file}: give one with --name")
    return made


def _play(
    context: Context,
    file: str,
    path: str,
    name: str,
    *,
    named: bool,
    as_json: bool,
    configmap: Sequence[str],
    publish: Sequence[str],
    replace: bool,
    start: bool,
    timeout: float,
    ignore_unsupported: bool,
    quiet: bool,
) -> int:
    from cove.cli.kube_engine import ClientEngine
    from cove.kube.installed import check_installed
    from cove.kube.play import objects, present, run
    from cove.kube.play.fields import Reading

    check_installed("yaml")
    if [file, *configmap].count(STDIN) > 1:
        raise CliError("cove: only one file can be STDIN")
    reading = Reading()
    configs = [node for each in configmap for node in _documents(each)]
    plan = objects.plan(_documents(file), configs, name, path, publish, reading)
    problems = reading.problems
    problems.check(ignore_unsupported=ignore_unsupported)
    left_out = sorted(problems.unsupported)

    say = _sayer(quiet=quiet)
    for each in left_out:
        say(f"left out: {each}")
    for each in sorted(problems.notes):
        say(f"note: {each}")
    if not plan.all_pods:
        raise CliError(f"cove: there is nothing to start in {printable(file)}: no Pod, Deployment or Job")
    engine = ClientEngine(context.engine, quiet=quiet)
    found = run.prepare(engine, plan, say, replace=replace, named=named)
    for text in found:
        say(f"note: {text}")
    if replace:
        present.remove(engine, name, volumes=False, say=say)
    result = run.Run(engine, plan, say, timeout_s=timeout).up(start=start)
    if as_json:
        notes = [*(str(each) for each in sorted(problems.notes)), *found]
        json_output.show(_document(plan, result, notes, [str(each) for each in left_out], started=start))
    elif not quiet:
        _tell(plan, result, started=start)
    failed = [each for each in result.jobs if not each.done]
    for job in failed:
        print(f"cove: job {job.name} has failed: its last status is {job.exit_code}", file=sys.stderr)
    return 1 if failed else 0


def _sayer(*, quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            print(shown(text), file=sys.stderr, flush=True)

    return say


def _documents(file: str) -> list[Node]:
    """Those of a file, or of all files of a folder."""
    if file != STDIN and Path(file).is_dir():
        found = sorted(str(each) for each in Path(file).iterdir() if each.suffix in SUFFIXES)
        if not found:
            raise CliError(f"cove: there is no file of {', '.join(SUFFIXES)} in {printable(file)}")
        return [node for each in found for node in _of_file(each)]
    return _of_file(file)


def _of_file(file: str) -> list[Node]:
    from cove.kube.play import documents

    try:
        with sys.stdin.buffer if file == STDIN else Path(file).open("rb") as stream:
            data = stream.read(documents.MAX_BYTES + 1)
    except OSError as error:
        raise CliError(f"cove: {printable(os_error_text(error))}") from error
    try:
        return documents.read(data.decode("utf-8-sig"), "STDIN" if file == STDIN else file)
    except UnicodeDecodeError:
        raise CliError(f"cove: {printable(file)} is not UTF-8: that is no manifest") from None


def _tell(plan: Plan, result: Result, *, started: bool) -> None:
    from cove.cli.format import table

    rows = [("POD", "CONTAINERS", "PORTS")]
    for pod in plan.all_pods:
        ports = ", ".join(f"{here}->{there}" for here, there in result.ports.get(pod.name, ()))
        rows.append((pod.name, ", ".join(each.name for each in pod.all), ports))
    print(table(rows), end="")
    for job in result.jobs:
        print(f"job {job.name}: {job.succeeded} of {job.completions} completions, {job.failures} failures")
    if not started:
        print("nothing was started: cove start POD, then its containers")


def _document(plan: Plan, result: Result, notes: list[str], left_out: list[str], *, started: bool) -> dict[str, Any]:
    return {
        "play": plan.name,
        "file": plan.file,
        "network": plan.network,
        "started": started,
        "pods": [
            {
                "name": pod.name,
                "object": pod.owner,
                "containers": [each.name for each in pod.containers],
                "init_containers": [each.name for each in pod.inits],
                "ports": [{"address": here, "port": there} for here, there in result.ports.get(pod.name, ())],
            }
            for pod in plan.all_pods
        ],
        "claims": [each.name for each in plan.claims],
        "jobs": [
            {
                "name": each.name,
                "done": each.done,
                "completions": each.completions,
                "succeeded": each.succeeded,
                "failures": each.failures,
                "exit_code": each.exit_code,
            }
            for each in result.jobs
        ],
        "notes": notes,
        "left_out": left_out,
    }


def _down(
    engine: Engine,
    name: str,
    path: str,
    say: Callable[[str], None],
    *,
    missing: str,
    named: bool,
    volumes: bool,
    as_json: bool,
) -> int:
    """`missing` is the file that named the play, if it is not there: a play that is there outlives its file."""
    from cove.kube.play import present, run

    there = present.look(engine, name)
    run.same_file(there, name, path, named=named)
    if missing and not (there.there or there.volumes):
        raise CliError(f"cove: there is no file {printable(missing)}, and nothing of a play {name}")
    removed = present.remove(engine, name, volumes=volumes, say=say)
    if as_json:
        document = {"containers": removed.containers, "networks": removed.networks, "volumes": removed.volumes}
        json_output.show({"play": name, "removed": document})
        return 0
    names = [*removed.containers, *removed.networks, *removed.volumes]
    print("\n".join(names) if names else f"there is nothing of the play {name}")
    return 0
