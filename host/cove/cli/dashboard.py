"""`cove dashboard`: the page for those who would rather look than type."""

from __future__ import annotations

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Command, switch
from cove.cli.which_machine import named

PROCESS = "cove.cli.dashboard_process"
HELP = """Open the dashboard, a page in your browser, on this computer alone

The address that is printed opens it once, within a minute; nobody else can come in by it after
that. The page is served on 127.0.0.1 by a process of yours, which ends when no page has been
open for 15 minutes. To look at a machine does not start it: the page has a button for that."""


@click.command("dashboard", cls=Command, short_help="Open the dashboard, a page in your browser", help=HELP)
@named
@switch("--no-open", help="Print the address and open no browser")
@json_output.option
def command(name: str, no_open: bool, as_json: bool) -> None:
    from cove.dashboard import launch

    opened = not no_open and show(launch.address(name, PROCESS))
    url = launch.address(name, PROCESS)  # another one: the browser has used the first, or will never come
    json_output.told(as_json, url, machine=name, url=url, opened=opened)


def show(url: str) -> bool:
    """Whether a browser was told to show it."""
    import os
    import sys
    import webbrowser

    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False  # one in the terminal would do nothing with this page, and take the terminal
    return webbrowser.open(url)
