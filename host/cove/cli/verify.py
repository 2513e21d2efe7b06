"""`cove verify`: shows on this computer that Cove does what it promises."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command
from cove.cli.errors import CliError

HELP = """Try on this computer what Cove promises, and write a report to send back

It makes a machine of its own in a folder of its own, ~/.cove-verify, runs containers in it, with
docker's client too when there is one, and removes all of it again; your machines are not touched.
It takes some five minutes, most of them for the VM image, and asks once to put the computer to
sleep. The report has no passwords, tokens and keys in it; FILE is where it goes."""


@click.command(
    "verify", cls=Command, short_help="Try on this computer what Cove promises, and write a report", help=HELP
)
@click.argument("file", metavar="[FILE]", required=False)
@json_output.option
def command(file: str | None, as_json: bool) -> int:
    from cove.machine.files import write_whole
    from cove.support import bundle, verify

    home = Path.home() / ".cove-verify"
    if home.exists():
        raise CliError(
            f"cove: {home} is left from an earlier run\n      remove what is in it with: COVE_HOME={home} cove uninstall"
        )
    target = Path(file or f"cove-verify-{time.strftime('%Y%m%d-%H%M%S')}.txt")
    if not target.absolute().parent.is_dir():
        raise CliError(f"cove: there is no folder {target.absolute().parent}\n      make it, or name another FILE")
    results = []
    for each in verify.Verification(home, _ask if sys.stdin.isatty() else None).run():
        results.append(each)
        first = each.text.splitlines()[0] if each.text else ""
        line = f"{each.state:<8} {each.name:<12} {each.seconds:7.1f} s  {first}"
        print(line, flush=True, file=sys.stderr if as_json else sys.stdout)
    clean = bundle.cleaner()
    write_whole(target, verify.report(results, clean).encode())
    failed = sum(each.state == verify.FAILED for each in results)
    if as_json:
        json_output.show(
            {"failed": failed, "report": str(target), "results": clean.document([asdict(each) for each in results])}
        )
        return 1 if failed else 0
    print(f"\n{f'{failed} failed' if failed else 'nothing failed'}; the report to send back: {target}")
    return 1 if failed else 0


def _ask(what: str) -> bool:
    print(what, file=sys.stderr, flush=True)
    return not sys.stdin.readline().strip().lower().startswith("n")
