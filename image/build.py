#!/usr/bin/env python3
"""Builds the image without a registry, a daemon or root: Debian's packages, pinned programs, wheels with hashes.

Leaves in the output folder, for each platform: ``linux-ARCH/`` (an OCI layout), ``obi-mcp-VERSION-ARCH.tar`` (for
``docker load``, and an OCI archive, too), ``parts/linux-ARCH/`` (what the Dockerfile copies); and ``index/``, the OCI
layout of all platforms. Progress goes to standard error, the table of layers to standard output.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import layout
from layout import Image, Layer
from parts import base, debian
from parts.contents import BASE, PARTS, Contents, Wanted, contents_of, workplace
from parts.description import Origin, origin
from parts.platform import PLATFORMS, Platform
from recipes.step import BuildFailed, say
from recipes.store import Store, cache_root

PROJECT = Path(__file__).resolve().parent.parent
NICENESS = 10
MB = 1_000_000
LAYER_EPOCH = 0
"""The age of every file: a layer whose content stays the same stays the same layer from one commit to the next."""


@dataclass(frozen=True, slots=True)
class Build:
    """One run: where to, of what, and how its parts are made."""

    output: Path
    origin: Origin
    contents: Contents
    wanted: Wanted

    def archive(self, platform: Platform) -> Path:
        return self.output / f"obi-mcp-{self.origin.version}-{platform.architecture}.tar"

    def platform(self, platform: Platform) -> Image:
        """Make one platform's parts, layout and archive. Raises: BuildFailed."""
        self.contents.make(platform, self.wanted, parts_folder(self.output, platform))
        place = self.output / platform.name
        shutil.rmtree(place, ignore_errors=True)
        say(f"{platform.name}: writing layers")
        image = layout.write_image(
            place, self._layers(platform, place), self.origin.settings(platform), epoch=self.origin.epoch
        )
        reference = f"obi-mcp:{self.origin.version}"
        layout.write_archive(place, self.archive(platform), reference, epoch=self.origin.epoch)
        return image

    def _layers(self, platform: Platform, place: Path) -> tuple[Layer, ...]:
        folders = [parts_folder(self.output, platform) / part for part in (BASE, *PARTS)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib and hashes let go of the lock
            writing = [
                pool.submit(
                    layout.write_layer,
                    folder,
                    place,
                    title=folder.name,
                    epoch=LAYER_EPOCH,
                    modes=base.MODES,
                    cache=self.contents.store.root.parent / "image/layers",
                )
                for folder in folders
                if any(folder.iterdir())
            ]
            return tuple(one.result() for one in writing)


def main() -> int:
    """Exit code 0; 1 when something could not be made; 2 for usage."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a running step is stopped with us
    os.nice(max(0, NICENESS - os.nice(0)))
    store = Store(cache_root())
    try:
        if arguments.lock:
            _renew_lock(store)
        else:
            _build(arguments, store)
    except BuildFailed as failure:
        say(f"{failure}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build(arguments: argparse.Namespace, store: Store) -> None:
    platforms = [PLATFORMS[name] for name in dict.fromkeys(arguments.platform or PLATFORMS)]
    wanted = Wanted(arguments.with_obi, arguments.with_analysis)
    output, contents = arguments.output.resolve(), contents_of(PROJECT, store)
    if arguments.parts:
        for platform in platforms:
            contents.make(platform, wanted, parts_folder(output, platform))
        return
    build = Build(output, origin(PROJECT), contents, wanted)
    _report(build, {platform: build.platform(platform) for platform in platforms})


def parts_folder(output: Path, platform: Platform) -> Path:
    """Where the folders of a platform's layers are."""
    return output / "parts" / platform.name


def _report(build: Build, images: dict[Platform, Image]) -> None:
    index = build.output / "index"
    shutil.rmtree(index, ignore_errors=True)
    places = [build.output / platform.name for platform in images]
    digest = layout.write_index(index, places, build.origin.labels())
    for platform, image in images.items():
        print(f"{platform.name}  {image.digest}")
        for layer in image.layers:
            print(f"  {layer.title:<9}{layer.unpacked / MB:8.1f} MB {layer.size / MB:7.1f} MB compressed")
        print(
            f"  {'together':<9}{sum(one.unpacked for one in image.layers) / MB:8.1f} MB {image.compressed / MB:7.1f} MB"
        )
        print(f"  {build.archive(platform)}")
    print(f"index        {digest}")


def _renew_lock(store: Store) -> None:
    """Pin what Debian offers now."""
    packages: list[debian.Package] = []
    for platform in PLATFORMS.values():
        with workplace("lock", store) as work:
            apt = debian.apt(store.root.parent / "image/apt" / platform.architecture, platform, work.steps)
            packages += apt.candidates(base.ALL_PACKAGES)
    debian.write_lock(PROJECT / "image/debian.lock", packages)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PROJECT / "build/image", help="(build/image)")
    parser.add_argument("--platform", action="append", choices=tuple(PLATFORMS), help="may be repeated (all)")
    parser.add_argument("--with-obi", type=Path, metavar="PATH", help="put this obi binary in, too")
    parser.add_argument("--with-analysis", action="store_true", help="with the analytical engine, an extra layer")
    parser.add_argument("--parts", action="store_true", help="make only the folders that the Dockerfile copies")
    parser.add_argument("--lock", action="store_true", help="pin the Debian packages that there are now")
    arguments = parser.parse_args()
    if arguments.with_obi and len(arguments.platform or PLATFORMS) != 1:
        parser.error("--with-obi goes with one --platform: a binary is for one")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
