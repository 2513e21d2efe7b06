"""Links: where they are kept, and the variables about them."""

from __future__ import annotations

from pathlib import Path

from coved.containers.linked import variables
from coved.containers.links import SCHEMA, Link, Links
from coved.store.database import Database


def test_variables_as_dockerd_gives_them() -> None:
    exposed = {"81/tcp": {}, "80/tcp": {}, "82/tcp": {}, "90/udp": {}, "443": {}}
    env = ["A=1", "Q=a=b", "E=", "HOME=/x", "PATH=/y", "BARE"]
    found = variables("/web/my-db", "10.0.0.2", exposed, env)
    single = [
        entry
        for number, proto in ((80, "tcp"), (81, "tcp"), (82, "tcp"), (443, "tcp"), (90, "udp"))
        for entry in (
            f"MY_DB_PORT_{number}_{proto.upper()}={proto}://10.0.0.2:{number}",
            f"MY_DB_PORT_{number}_{proto.upper()}_ADDR=10.0.0.2",
            f"MY_DB_PORT_{number}_{proto.upper()}_PORT={number}",
            f"MY_DB_PORT_{number}_{proto.upper()}_PROTO={proto}",
        )
    ]
    runs = ["START=tcp://10.0.0.2:80", "PORT_START=80", "END=tcp://10.0.0.2:82", "PORT_END=82"]
    assert found == [
        "MY_DB_PORT=tcp://10.0.0.2:80",
        *(f"MY_DB_PORT_80_TCP_{one}" for one in runs),
        *single,
        "MY_DB_NAME=/web/my-db",
        *(f"MY_DB_ENV_{entry}" for entry in ("A=1", "Q=a=b", "E=")),
    ]


def test_the_default_port_is_the_lowest_and_two_ports_are_no_run() -> None:
    assert variables("/w/a", "X", ["100/tcp", "53/udp"], [])[0] == "A_PORT=udp://X:53"
    assert variables("/w/a", "X", ["53/udp", "53/tcp"], [])[0] == "A_PORT=tcp://X:53"
    assert not any("START" in entry for entry in variables("/w/a", "X", ["80", "81"], []))
    assert variables("/w/a", "X", [], []) == ["A_NAME=/w/a"]


def links(path: Path) -> Links:
    database = Database(path)
    database.migrate("links", (SCHEMA,))
    made = Links(database)
    made.load()
    return made


def test_what_is_kept_is_what_the_next_engine_finds(tmp_path: Path) -> None:
    first = links(tmp_path / "db")
    first.add("web", {"z": Link("db", "db1"), "a": Link("db", "db1"), "c": Link("cache", "cache1")})
    first.add("job", {"db": Link("db", "db1")})
    first.renamed("db", "db2")
    first.remove("web", "c")
    for one in (first, links(tmp_path / "db")):
        assert one.of("web") == {"z": Link("db", "db2"), "a": Link("db", "db2")}
        assert [*one.of("web")] == ["z", "a"]
        assert one.to("db") == [("web", "z"), ("web", "a"), ("job", "db")]
        assert one.to("cache") == []
        assert one.of("nobody") == {}


def test_a_removed_container_takes_its_links_and_leaves_those_to_it(tmp_path: Path) -> None:
    first = links(tmp_path / "db")
    first.add("web", {"a": Link("db", "db1")})
    first.add("db", {"b": Link("disk", "disk1")})
    first.forget("db")
    for one in (first, links(tmp_path / "db")):
        assert (one.of("db"), one.to("disk"), one.to("db")) == ({}, [], [])
        assert one.of("web") == {"a": Link("", "db1")}
    first.forget("web")
    assert links(tmp_path / "db").of("web") == {}
