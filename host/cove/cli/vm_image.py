"""`cove vm-image`: build the VM image and tell what is in it."""

from __future__ import annotations

import click

from cove.cli import as_json as json_output
from cove.cli.clicked import Group
from cove.machine.architecture import AMD64, ARCHITECTURES, ARM64, named


@click.group("vm-image", cls=Group)
def group() -> None:
    """Build and look into the VM image"""


_architecture = click.option(
    "--architecture",
    type=click.Choice(ARCHITECTURES),
    default="auto",
    help="The processors that it is for (default: this computer's)",
)


@group.command(short_help="Build the image of this version of Cove, or find it built")
@_architecture
@json_output.option
def build(architecture: str, as_json: bool) -> None:
    """Build the image of this version of Cove, or find it built, and print where it lies"""
    from cove.image import builder
    from cove.progress import renderer

    with renderer() as report:
        image = builder.build(named(architecture), report)
    json_output.told(as_json, str(image.directory), digest=image.digest, directory=str(image.directory))


@group.command(short_help="Print where the image lies")
@_architecture
@json_output.option
def path(architecture: str, as_json: bool) -> None:
    """Print where the image lies; fails when it has yet to be built"""
    from cove.errors import CoveError
    from cove.image import store

    image = store.current(named(architecture))
    if image is None:
        raise CoveError("the VM image has not been built", "build it with `cove vm-image build`")
    json_output.told(as_json, str(image.directory), digest=image.digest, directory=str(image.directory))


@group.command(short_help="Pin the newest packages of Debian's signed index")
@json_output.option
def lock(as_json: bool) -> None:
    """Pin the newest packages of Debian's signed index (for those who work on Cove)"""
    from cove.image import bootdisk, builder
    from cove.progress import renderer

    with renderer() as report:
        written = [str(bootdisk.write_lock(report)), *(str(builder.write_lock(one, report)) for one in (AMD64, ARM64))]
    json_output.told(as_json, "\n".join(written), locks=written)


@group.command(short_help="Write the image as one disk that UEFI boots")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@json_output.option
def disk(file: str, as_json: bool) -> None:
    """Write the image as one disk that UEFI boots, for Hyper-V (Generation 2) and other hypervisors that load no kernel themselves: as
    VHDX when the FILE's name ends in .vhdx, else raw"""
    from pathlib import Path

    from cove.image import bootdisk, builder
    from cove.progress import renderer

    path = Path(file).absolute()
    with renderer() as report:
        image = builder.build(bootdisk.ARCHITECTURE, report)
        bootdisk.write(image, path, report)
    json_output.told(as_json, str(path), digest=image.digest, disk=str(path))


@group.command()
@_architecture
@json_output.option
def report(architecture: str, as_json: bool) -> None:
    """Tell what is in the image: packages, versions, licences, sizes"""
    from cove.image import builder
    from cove.image import report as contents
    from cove.progress import renderer

    with renderer() as progress:
        image = builder.build(named(architecture), progress)
    sizes = contents.compressed_sizes(image)
    lines = contents.packages(image)
    if as_json:
        rows = [{"name": p.name, "version": p.version, "licences": p.licences, "bytes": p.kept} for p in lines]
        json_output.show({"digest": image.digest, "compressed": sizes, "packages": rows})
        return
    print(f"{image.digest}  {image.directory}\n")
    print(f"{'artefact':<16}{'MB':>8}{'compressed MB':>16}")
    for file in (image.kernel, image.initramfs, image.system):
        print(f"{file.name:<16}{file.stat().st_size / 1e6:>8.1f}{sizes[file.name] / 1e6:>16.1f}")
    print(f"{'together':<24}{sum(sizes.values()) / 1e6:>16.1f}\n")
    print(f"{'package':<36}{'version':<32}{'MB':>7}  licences")
    for line in lines:
        size = "?" if line.kept is None else f"{line.kept / 1e6:.1f}"
        print(f"{line.name:<36}{line.version:<32}{size:>7}  {', '.join(line.licences[:4])}")
