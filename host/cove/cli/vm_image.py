"""`cove vm-image`: build the VM image and tell what is in it."""

from __future__ import annotations

import json

from cove.cli.command import Command, Context
from cove.cli.flags import Values, switch


def build(context: Context, values: Values) -> int:
    """`cove vm-image build`"""
    from cove.image import builder
    from cove.progress import renderer

    with renderer() as report:
        image = builder.build(report)
    print(image.directory)
    return 0


def path(context: Context, values: Values) -> int:
    """`cove vm-image path`"""
    from cove.errors import CoveError
    from cove.image import store

    image = store.current()
    if image is None:
        raise CoveError("the VM image has not been built", "build it with `cove vm-image build`")
    print(image.directory)
    return 0


def lock(context: Context, values: Values) -> int:
    """`cove vm-image lock`"""
    from cove.image import builder
    from cove.progress import renderer

    with renderer() as report:
        written = builder.write_lock(report)
    print(written)
    return 0


def report(context: Context, values: Values) -> int:
    """`cove vm-image report`"""
    from cove.image import builder
    from cove.image import report as contents
    from cove.progress import renderer

    with renderer() as progress:
        image = builder.build(progress)
    sizes = contents.compressed_sizes(image)
    lines = contents.packages(image)
    if values["json"]:
        rows = [{"name": p.name, "version": p.version, "licences": p.licences, "bytes": p.kept} for p in lines]
        print(json.dumps({"digest": image.digest, "compressed": sizes, "packages": rows}, indent=1))
        return 0
    print(f"{image.digest}  {image.directory}\n")
    print(f"{'artefact':<16}{'MB':>8}{'compressed MB':>16}")
    for file in (image.kernel, image.initramfs, image.system):
        print(f"{file.name:<16}{file.stat().st_size / 1e6:>8.1f}{sizes[file.name] / 1e6:>16.1f}")
    print(f"{'together':<24}{sum(sizes.values()) / 1e6:>16.1f}\n")
    print(f"{'package':<36}{'version':<32}{'MB':>7}  licences")
    for line in lines:
        size = "?" if line.kept is None else f"{line.kept / 1e6:.1f}"
        print(f"{line.name:<36}{line.version:<32}{size:>7}  {', '.join(line.licences[:4])}")
    return 0


COMMANDS = {
    "build": Command(
        build, "Build the image of this version of Cove, or find it built, and print where it lies", most=0
    ),
    "path": Command(path, "Print where the image lies; fails when it has yet to be built", most=0),
    "lock": Command(lock, "Pin the newest packages of Debian's signed index (for those who work on Cove)", most=0),
    "report": Command(
        report,
        "Tell what is in the image: packages, versions, licences, sizes",
        flags=(switch("json", "", "Print JSON"),),
        most=0,
    ),
}
