"""`cove tray`: a machine's icon in the desktop's tray."""

from __future__ import annotations

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command, switch
from cove.cli.errors import CliError
from cove.cli.which_machine import named

PROCESS = "cove.cli.tray_process"
WAIT_S = 5.0
HELP = """Show a machine in the desktop's tray, or menu bar

The icon tells what the machine does; its menu starts, stops and suspends it, opens the
dashboard, and has the newest containers with their published ports. The command returns when
the icon is there; it goes with "Quit" in its menu, or --quit, and the machine stays as it is.
It needs Qt; where that is not, the command says how to get it."""


@click.command("tray", cls=Command, short_help="Show a machine in the desktop's tray, or menu bar", help=HELP)
@named
@click.option(
    "--at-login", type=click.Choice(["on", "off", "status"]), help="Have it there whenever you log in, or not; shows nothing now"
)  # fmt: skip
@switch("--quit", "ending", help="Take the icon away")
@click.option("--wait", type=click.FloatRange(0, 600), default=WAIT_S, help="Seconds for a desktop to have a tray")
@json_output.option
def command(name: str, at_login: str | None, ending: bool, wait: float, as_json: bool) -> None:
    from cove.tray import launch, qt

    if ending and at_login:
        raise CliError("cove: --quit and --at-login are two wishes")
    if at_login:
        _at_login(name, at_login, as_json)
    elif ending:
        gone = launch.end(name)
        said = f"the icon of machine {name} is gone" if gone else f"machine {name} has no icon in the tray"
        json_output.told(as_json, said, machine=name, shown=False)
    else:
        qt.check_installed()
        qt.check_desktop()
        new = launch.show(name, PROCESS, wait)
        said = f"machine {name} {'is in the tray' if new else 'is in the tray already'}"
        json_output.told(as_json, said, machine=name, shown=True)


def _at_login(name: str, wish: str, as_json: bool) -> None:
    from cove.machine import autostart
    from cove.machine.paths import validate_name
    from cove.tray import qt

    validate_name(name)
    entry = autostart.here(started=autostart.TRAY)
    if wish == "on":
        qt.check_installed()
        entry.turn_on(name)
    elif wish == "off":
        entry.turn_off(name)
    on, current = entry.is_on(name), entry.is_current(name)
    said = f"the icon of machine {name} is{'' if on else ' not'} shown when you log in"
    if on and not current:
        said += f", by what another Cove has made, or one in another place; have this one do it: cove tray --at-login on {name}"
    json_output.told(as_json, said, machine=name, at_login=on, current=current)
