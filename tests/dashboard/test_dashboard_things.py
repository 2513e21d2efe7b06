"""Images, volumes and networks in the dashboard."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import comes_true
from debian_files import registry_program
from machine_support import Machine
from playwright.sync_api import Page, expect

Visit = Callable[[str], Page]


def _confirm(page: Page, action: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=action).click()
    expect(dialog).to_have_count(0)


def test_an_image_is_named_saved_and_removed(machine: Machine, visit: Visit, name: str) -> None:
    image = machine.docker("image", "inspect", "-f", "{{.Id}}", "busybox").stdout.strip().removeprefix("sha256:")
    page = visit(f"images/{image[:12]}")
    page.get_by_role("button", name="Tag").click()
    page.get_by_role("dialog").get_by_label("Name", exact=True).fill(f"{name}:good")
    _confirm(page, "Tag")
    assert f"{name}:good" in json.loads(machine.docker("image", "inspect", "busybox").stdout)[0]["RepoTags"]
    with page.expect_download() as download:
        page.get_by_role("link", name="Save").click()
    with tarfile.open(download.value.path()) as archive:
        assert "manifest.json" in archive.getnames()
    page.get_by_role("button", name=f"Take off the name {name}:good").click()
    expect(page.get_by_role("button", name=f"Take off the name {name}:good")).to_have_count(0)
    assert f"{name}:good" not in json.loads(machine.docker("image", "inspect", "busybox").stdout)[0]["RepoTags"]


def test_the_last_name_goes_with_the_image_alone(machine: Machine, visit: Visit, running: str, name: str) -> None:
    image = machine.docker("commit", running, name).stdout.strip().removeprefix("sha256:")
    machine.docker("tag", name, f"{name}:other")
    page = visit(f"images/{image[:12]}")
    button = page.get_by_role("button", name=f"Take off the name {name}:other")
    expect(button).to_be_visible()
    # It becomes the last one while the page is seldom told.
    page.route("**/images/json*", lambda route: route.abort())
    machine.docker("image", "rm", f"{name}:latest")
    button.click()
    expect(page.get_by_role("alert").filter(has_text="its last name")).to_be_visible()
    assert machine.docker("image", "rm", f"{name}:other").returncode == 0


def test_layers_are_told_with_their_sizes(machine: Machine, visit: Visit, running: str, name: str) -> None:
    machine.docker("exec", running, "sh", "-c", "head -c 100000 /dev/urandom >/some")
    machine.docker("commit", "-m", "more in it", running, name)
    page = visit("images")
    page.get_by_role("link", name=name).click()
    expect(page.locator(".layers li").first).to_contain_text("KB")
    page.get_by_role("button", name="Remove", exact=True).click()
    _confirm(page, "Remove")
    expect(page.get_by_role("heading", name="Images", level=1)).to_be_visible()
    assert machine.docker("image", "inspect", name, check=False).returncode


def test_an_image_with_two_names_that_is_used_keeps_both(
    machine: Machine, visit: Visit, running: str, name: str
) -> None:
    machine.docker("commit", running, name)
    machine.docker("tag", name, f"{name}:other")
    machine.docker("create", "--name", f"{name}-user", name)
    page = visit("images")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(f"{name}-user")
    assert machine.docker("image", "inspect", name, f"{name}:other").returncode == 0
    machine.docker("rm", f"{name}-user")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert machine.docker("image", "inspect", f"{name}:other", check=False).returncode


def test_unused_images_are_shown_before_they_are_removed(
    machine: Machine, visit: Visit, running: str, name: str
) -> None:
    machine.docker("commit", running, name)
    machine.docker("create", "--name", f"{name}-starter", "cove/starter")
    page = visit("images")
    expect(page.get_by_role("link", name=name)).to_be_visible()
    page.get_by_role("button", name="Remove unused").click()
    preview = page.get_by_role("list", name="What will be removed")
    expect(preview).to_contain_text(name)
    expect(preview).not_to_contain_text("busybox")
    _confirm(page, "Remove")
    assert machine.docker("image", "inspect", name, check=False).returncode
    assert machine.docker("image", "inspect", "busybox").returncode == 0


def test_an_archive_is_loaded(machine: Machine, visit: Visit, running: str, name: str, tmp_path: Path) -> None:
    machine.docker("commit", running, name)
    archive = tmp_path / "image.tar"
    machine.docker("save", "-o", str(archive), name)
    machine.docker("image", "rm", name)
    page = visit("images")
    expect(page.get_by_role("link", name="busybox")).to_be_visible()
    expect(page.get_by_role("link", name=name)).to_have_count(0)
    page.get_by_label("Load archive").set_input_files(archive)
    expect(page.get_by_role("link", name=name)).to_be_visible()
    assert machine.docker("image", "inspect", name).returncode == 0


@pytest.fixture
def registry(machine: Machine, name: str, tmp_path: Path) -> str:
    """Docker's own, in a container; the address that its images are called by."""
    made, root = f"{name}-registry", tmp_path / "root"
    program = registry_program()
    for file in (program, *map(Path, re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", program], text=True)))):
        place = root / ("registry" if file == program else str(file).lstrip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.resolve(), place)
    config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": "/tmp/store"}}, "http": {"addr": ":5000"}}
    (root / "config.json").write_text(json.dumps(config))  # what is JSON is YAML
    machine.docker("create", "--name", made, "-p", "127.0.0.1::5000", "busybox", "/registry", "serve", "/config.json")
    machine.docker("cp", f"{root}/.", f"{made}:/", timeout_s=300)
    machine.docker("start", made)
    return machine.docker("port", made, "5000").stdout.strip()


def test_an_image_is_pulled_with_its_progress(machine: Machine, visit: Visit, name: str, registry: str) -> None:
    image = f"{registry}/{name}:good"
    machine.docker("tag", "busybox", image)
    comes_true(lambda: machine.docker("push", image, timeout_s=120, check=False).returncode == 0, "it is pushed")
    machine.docker("rmi", image)
    # The layer has to come as well.
    machine.docker("run", "--name", f"{name}-made", "busybox", "sh", "-c", "head -c 3000000 /dev/urandom >/some")
    machine.docker("commit", f"{name}-made", image)
    machine.docker("push", image)
    machine.docker("rm", f"{name}-made")
    machine.docker("rmi", image)
    page = visit("images")
    page.get_by_role("button", name="Pull an image").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill(image)
    dialog.get_by_role("button", name="Pull", exact=True).click()
    expect(page.get_by_role("status").filter(has_text=f"{image} is here.")).to_be_visible()
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("link", name=image)).to_be_visible()
    assert machine.docker("run", "--rm", image, "sh", "-c", "wc -c </some").stdout.strip() == "3000000"
    machine.docker("rmi", image)


def test_unused_networks_are_shown_before_they_are_removed(
    machine: Machine, visit: Visit, name: str, request: pytest.FixtureRequest
) -> None:
    used = f"{name}-used"
    machine.docker("network", "create", name)
    machine.docker("network", "create", used)
    request.addfinalizer(
        lambda: machine.docker("network", "rm", used, check=False)
    )  # after the container, which has it
    machine.docker("create", "--name", name, "--network", used, "busybox", "true")
    page = visit("networks")
    expect(page.get_by_role("table").get_by_role("link", name=used)).to_be_visible()
    page.get_by_role("button", name="Remove unused").click()
    preview = page.get_by_role("list", name="What will be removed")
    expect(preview).to_contain_text(name)
    expect(preview).not_to_contain_text(used)
    expect(preview).not_to_contain_text("bridge")
    _confirm(page, "Remove")
    expect(page.get_by_role("table").get_by_role("link", name=name, exact=True)).to_have_count(0)
    assert machine.docker("network", "inspect", name, check=False).returncode
    # Docker's own pruning would take it, for its container does not run, and could not run again then.
    assert machine.docker("network", "inspect", used, "bridge").returncode == 0
    machine.docker("rm", name)


@pytest.mark.timeout(600)
def test_the_build_cache_is_shown_and_removed(machine: Machine, visit: Visit, name: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN echo {name} && head -c 100000 /dev/urandom >/some\n")
    machine.cove("build", "-t", name, str(tmp_path), timeout_s=300)
    machine.docker("rmi", name)
    page = visit("cache")
    expect(page.get_by_role("row").filter(has_text=name)).to_be_visible()
    page.get_by_role("button", name="Remove unused").click()
    expect(page.get_by_role("list", name="What will be removed")).to_contain_text(name)
    _confirm(page, "Remove")
    expect(page.get_by_role("row").filter(has_text=name)).to_have_count(0)
    assert name not in json.dumps(_cache(machine))


def _cache(machine: Machine) -> list[dict[str, object]]:
    told = machine.docker("system", "df", "-v", "--format", "{{json .BuildCache}}").stdout
    return list(json.loads(told) or [])


def test_a_pull_that_fails_says_why(visit: Visit) -> None:
    page = visit("images")
    page.get_by_role("button", name="Pull an image").click()
    page.get_by_role("dialog").get_by_label("Name", exact=True).fill("localhost:9/no/such:image")
    page.get_by_role("dialog").get_by_role("button", name="Pull", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="localhost:9")).to_be_visible()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_volume_is_made_browsed_exported_imported_and_removed(
    machine: Machine, visit: Visit, name: str, tmp_path: Path
) -> None:
    page = visit("volumes")
    page.get_by_role("button", name="Create a volume").first.click()
    page.get_by_role("dialog").get_by_label("Name", exact=True).fill(name)
    _confirm(page, "Create")
    link = page.get_by_role("link", name=name, exact=True)
    expect(link).to_be_visible()
    machine.docker("run", "--rm", "-v", f"{name}:/v", "busybox", "sh", "-c", "mkdir /v/deep; echo kept >/v/deep/file")
    link.click()
    page.get_by_role("button", name="deep", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download file").click()
    assert download.value.path().read_text() == "kept\n"
    with page.expect_download() as download:
        page.get_by_role("link", name="Export").click()
    with tarfile.open(download.value.path()) as archive:
        assert any(member.endswith("deep/file") for member in archive.getnames())

    brought = tmp_path / "brought.tar"
    with tarfile.open(brought, "w") as archive:
        member = tarfile.TarInfo("other")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"other\n"))
    page.locator("[data-import]").set_input_files(brought)
    page.get_by_label("Replace what is in it").check()
    _confirm(page, "Import")
    expect(page.get_by_role("cell", name="other", exact=True)).to_be_visible()
    expect(page.get_by_role("cell", name="file", exact=True)).to_have_count(0)
    assert machine.docker("run", "--rm", "-v", f"{name}:/v", "busybox", "ls", "/v").stdout == "other\n"

    page.get_by_role("button", name="Remove", exact=True).click()
    _confirm(page, "Remove")
    expect(page.get_by_role("heading", name="Volumes", level=1)).to_be_visible()
    assert machine.docker("volume", "inspect", name, check=False).returncode


def test_a_volume_in_use_says_by_whom_and_stays(machine: Machine, visit: Visit, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-v", f"{name}:/v", "busybox", "sleep", "100000")
    page = visit("volumes")
    row = page.get_by_role("row").filter(has_text=name)
    expect(row.get_by_role("cell").nth(1)).to_have_text(name)
    row.get_by_role("button", name=f"Remove: {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("dialog").get_by_role("alert").filter(has_text="in use")).to_be_focused()
    assert machine.docker("volume", "inspect", name).returncode == 0


def test_a_network_is_made_drawn_left_and_removed(machine: Machine, visit: Visit, name: str) -> None:
    page = visit("networks")
    page.get_by_role("button", name="Create a network").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_label("Subnet", exact=True).fill("10.211.3.0/24")
    dialog.get_by_label("Internal").check()
    _confirm(page, "Create")
    made = json.loads(machine.docker("network", "inspect", name).stdout)[0]
    assert made["Internal"] and made["IPAM"]["Config"][0]["Subnet"] == "10.211.3.0/24"
    machine.docker("run", "-d", "--name", name, "--network", name, "busybox", "sleep", "100000")
    expect(page.get_by_role("group", name="each line is a connection").get_by_role("link", name=name)).to_have_count(2)
    page.get_by_role("table").get_by_role("link", name=name).click()
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)
    assert not json.loads(machine.docker("network", "inspect", name).stdout)[0]["Containers"]
    page.get_by_role("button", name="Remove").click()
    _confirm(page, "Remove")
    expect(page.get_by_role("heading", name="Networks", level=1)).to_be_visible()
    assert machine.docker("network", "inspect", name, check=False).returncode
