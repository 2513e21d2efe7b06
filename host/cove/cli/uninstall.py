"""`cove uninstall`: removes everything that Cove has made on this computer."""

from __future__ import annotations

import sys

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command, switch
from cove.cli.command import agreed
from cove.cli.errors import CliError

HELP = """Remove everything that Cove has made on this computer

Machines with their containers, images and volumes, VM images, downloads, sockets, and docker
contexts. It lists them and asks first. With --keep-data the machines stay, for another
installation to find. The program itself goes with what has installed it (pip uninstall cove).
Registry credentials of `cove login` are docker's, and stay: `cove logout` removes them."""


@click.command("uninstall", cls=Command, short_help="Remove everything that Cove has made on this computer", help=HELP)
@switch("--keep-data", help="Keep the machines, with all that is in them")
@switch("--force", "-f", help="Do not ask")
@json_output.option
def command(keep_data: bool, force: bool, as_json: bool) -> None:
    from cove.cli.machine import stop_for_good, stop_in_order, warn
    from cove.dashboard import launch, places
    from cove.machine import lifecycle
    from cove.machine.sizes import approximate_size
    from cove.support import leftovers
    from cove.tray import launch as tray

    gone = leftovers.of_uninstall(keep_data=keep_data)
    if not as_json:
        print("This will be removed:" if gone else "There is nothing of Cove's here.")
        for each in gone:
            print(f"  {approximate_size(each.size):>9}  {each.path}  ({each.what})")
        if keep_data and (names := lifecycle.names()):
            print(
                f"This stays, with all that is in it: {'machine' if len(names) == 1 else 'machines'} {', '.join(names)}"
            )
    if gone and not force:
        print(flush=True, file=sys.stderr if as_json else sys.stdout)
        if as_json or not agreed(f"Remove all of this ({leftovers.size_of(gone)})?"):
            raise CliError(
                "nothing has been removed\n      to remove it without a question: cove uninstall --force"
                + (" --keep-data" if keep_data else "")
            )
    for name in places.served():
        launch.end(name)
    for name in tray.shown():
        tray.end(name)
    for name in lifecycle.names():
        if keep_data:
            stop_in_order(name)
        else:
            stop_for_good(name, forced=force)
    # Stopping has written logs, and removed sockets: what there is to remove is what is there now.
    leftovers.uninstall(leftovers.of_uninstall(keep_data=keep_data), warn, keep_data=keep_data)
    done = f"{leftovers.size_of(gone)} removed. " if gone else ""
    json_output.told(
        as_json, f"{done}The program itself is still there; what has installed it removes it, for instance: pip uninstall cove",
        removed=[each.shown() for each in gone], kept=lifecycle.names(),
    )  # fmt: skip
