"""`cove vm-image`: build the VM image and tell what is in it."""

from __future__ import annotations

import json

import click


@click.group("vm-image")
def group() -> None:
    """The VM image: what Cove's machines boot."""


@group.command()
def build() -> None:
    """Build the image of this version of Cove, or find it built, and print where it lies."""
    from cove.image import builder
    from cove.progress import renderer

    with renderer() as report:
        image = builder.build(report)
    click.echo(str(image.directory))


@group.command()
def path() -> None:
    """Print where the image lies. Fails when it has yet to be built."""
    from cove.errors import CoveError
    from cove.image import store

    image = store.current()
    if image is None:
        raise CoveError("the VM image has not been built", "build it with `cove vm-image build`")
    click.echo(str(image.directory))


@group.command()
def lock() -> None:
    """Pin the newest packages of Debian's signed index (for those who work on Cove)."""
    from cove.image import builder
    from cove.progress import renderer

    with renderer() as report:
        written = builder.write_lock(report)
    click.echo(str(written))


@group.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(as_json: bool) -> None:
    """Tell what is in the image: packages, versions, licences, sizes."""
    from cove.image import builder
    from cove.image import report as contents
    from cove.progress import renderer

    with renderer() as progress:
        image = builder.build(progress)
    sizes = contents.compressed_sizes(image)
    lines = contents.packages(image)
    if as_json:
        rows = [{"name": p.name, "version": p.version, "licences": p.licences, "bytes": p.kept} for p in lines]
        click.echo(json.dumps({"digest": image.digest, "compressed": sizes, "packages": rows}, indent=1))
        return
    click.echo(f"{image.digest}  {image.directory}\n")
    click.echo(f"{'artefact':<16}{'MB':>8}{'compressed MB':>16}")
    for file in (image.kernel, image.initramfs, image.system):
        click.echo(f"{file.name:<16}{file.stat().st_size / 1e6:>8.1f}{sizes[file.name] / 1e6:>16.1f}")
    click.echo(f"{'together':<24}{sum(sizes.values()) / 1e6:>16.1f}\n")
    click.echo(f"{'package':<36}{'version':<32}{'MB':>7}  licences")
    for line in lines:
        size = "?" if line.kept is None else f"{line.kept / 1e6:.1f}"
        click.echo(f"{line.name:<36}{line.version:<32}{size:>7}  {', '.join(line.licences[:4])}")
