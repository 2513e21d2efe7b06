"""A desktop's side of StatusNotifierItem: the watcher with which icons register, and a host that reads their menus and chooses in them
(com.canonical.dbusmenu), as KDE's panel and GNOME's extension do. On a bus of its own.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    MessageType,
    Properties,
    message_bus,
    new_error,
    new_method_call,
    new_method_return,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

BOUND_S = 60.0
WATCHER, WATCHER_PATH = "org.kde.StatusNotifierWatcher", "/StatusNotifierWatcher"
ITEM = "org.kde.StatusNotifierItem"
MENU = "com.canonical.dbusmenu"
INTROSPECTED = f"""<node><interface name="{WATCHER}">
<method name="RegisterStatusNotifierItem"><arg name="service" type="s" direction="in"/></method>
<property name="RegisteredStatusNotifierItems" type="as" access="read"/>
<property name="IsStatusNotifierHostRegistered" type="b" access="read"/>
<property name="ProtocolVersion" type="i" access="read"/>
</interface></node>"""
PROPERTIES: dict[str, tuple[str, Any]] = {
    "RegisteredStatusNotifierItems": ("as", []),
    "IsStatusNotifierHostRegistered": ("b", True),
    "ProtocolVersion": ("i", 0),
}


@dataclass(frozen=True)
class Line:
    number: int
    label: str
    enabled: bool


class Host:
    def __init__(self, address: str) -> None:
        self._registered = threading.Event()
        self._item = ""
        self._watcher = open_dbus_connection(bus=address)
        self._watcher.send_and_get_reply(message_bus.RequestName(WATCHER), timeout=BOUND_S)
        threading.Thread(target=self._watch, daemon=True).start()
        self._connection = open_dbus_connection(bus=address)

    def wait_for_icon(self) -> None:
        assert self._registered.wait(BOUND_S), "no icon has registered"

    def tip(self) -> str:
        return str(self._item_has("ToolTip")[2])

    def icon_has(self, colour: str) -> bool:
        """Whether the icon has a picture with much of this colour (#RRGGBB)."""
        pixel = b"\xff" + bytes.fromhex(colour[1:])
        return any(
            bytes(data).count(pixel) > width * height / 5 for width, height, data in self._item_has("IconPixmap")
        )

    def lines(self) -> list[Line]:
        _, (_, _, children) = self._menu_does("GetLayout", "iias", (0, -1, []))
        found = []
        for _, (number, properties, _) in children:
            known = {name: value for name, (_, value) in properties.items()}
            if known.get("visible", True) and known.get("type") != "separator":
                found.append(Line(number, known["label"].replace("__", "_"), known.get("enabled", True)))
        return found

    def opens_menu(self) -> None:
        self._menu_does("AboutToShow", "i", (0,))

    def closes_menu(self) -> None:
        self._event(0, "closed")

    def chooses(self, label: str) -> None:
        (line,) = (each for each in self.lines() if each.label == label)
        assert line.enabled
        self._event(line.number, "clicked")

    def _event(self, number: int, kind: str) -> None:
        self._menu_does("Event", "isvu", (number, kind, ("s", ""), 0))

    def _menu_does(self, method: str, signature: str, body: tuple[Any, ...]) -> Any:
        address = DBusAddress(self._item_has("Menu"), self._item, MENU)
        return self._answer(new_method_call(address, method, signature, body))

    def _item_has(self, name: str) -> Any:
        address = DBusAddress("/StatusNotifierItem", self._item, ITEM)
        ((_, value),) = self._answer(Properties(address).get(name))
        return value

    def _answer(self, question: Any) -> Any:
        reply = self._connection.send_and_get_reply(question, timeout=BOUND_S)
        assert reply.header.message_type is MessageType.method_return, reply.body
        return reply.body

    def _watch(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                _answer_as_watcher(self._watcher, self)

    def _take(self, name: str, sender: str) -> None:
        self._item = name if name and not name.startswith("/") else sender
        self._registered.set()

    def close(self) -> None:
        self._connection.close()


def _answer_as_watcher(connection: DBusConnection, host: Host) -> None:
    asked = connection.receive()
    if asked.header.message_type is not MessageType.method_call:
        return
    fields = asked.header.fields
    member = fields.get(HeaderFields.member)
    if member == "Introspect":
        answer = new_method_return(asked, "s", (INTROSPECTED,))
    elif member == "Get":
        answer = new_method_return(asked, "v", (PROPERTIES[asked.body[1]],))
    elif member == "GetAll":
        answer = new_method_return(asked, "a{sv}", (PROPERTIES,))
    elif member == "RegisterStatusNotifierItem":
        host._take(asked.body[0], fields[HeaderFields.sender])
        answer = new_method_return(asked)
    else:
        answer = new_error(asked, "org.freedesktop.DBus.Error.UnknownMethod", "s", (f"no {member}",))
    connection.send(answer)


@contextlib.contextmanager
def notifier_host(folder: Path) -> Iterator[tuple[Host, str]]:
    """A host, and the address of its bus."""
    address = f"unix:path={folder}/bus"
    words = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address={address}", "--print-address"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        assert daemon.stdout is not None
        try:
            assert daemon.stdout.readline(), "the bus did not start"
            host = Host(address)
            yield host, address
            host.close()
        finally:
            daemon.terminate()
