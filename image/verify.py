#!/usr/bin/env python3
"""Builds the image again and compares it with ``build/image``; explains every difference, down to the file.

Everything is made anew from the downloads (Debian packages, wheels), whose hashes are checked. kubectl, helm and jq
come from the cache unless ``--fresh`` is given, since their build takes minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from compare import differences
from layout import read_image
from parts.platform import PLATFORMS
from recipes.store import cache_root

PROJECT = Path(__file__).resolve().parent.parent
_SLOW = ("kubectl", "helm", "jq", "go")


def main() -> int:
    """Exit code 0 when the digests are the same, 1 when not, 2 for usage."""
    arguments = _arguments()
    built = [name for name in arguments.platform if (arguments.output / f"linux-{name}" / "index.json").exists()]
    if not built:
        print(f"verify: nothing in {arguments.output}: run `make image` first", file=sys.stderr)
        return 2
    differing = 0
    with tempfile.TemporaryDirectory(prefix="obi-mcp-verify-") as place:
        _build_again(Path(place), built, arguments)
        for name in built:
            first, second = arguments.output / f"linux-{name}", Path(place) / "out" / f"linux-{name}"
            found = differences(first, second)
            differing += bool(found)
            print(f"linux-{name}  {read_image(first).digest}  {'DIFFERS' if found else 'the same again'}")
            print("".join(f"  {line}\n" for line in found), end="")
    return 1 if differing else 0


def _build_again(place: Path, platforms: list[str], arguments: argparse.Namespace) -> None:
    """Run the build with a cache of its own. Raises: SystemExit with what it said when it fails."""
    known, cache = cache_root(), place / "cache/obi-mcp"
    (cache / "programs").mkdir(parents=True)
    (cache / "image").symlink_to(known.parent / "image")  # downloads, each under its hash
    for entry in known.iterdir() if not arguments.fresh else ():
        if entry.is_dir() and entry.name.startswith(tuple(f"{name}-" for name in _SLOW)):
            (cache / "programs" / entry.name).symlink_to(entry)
    words = [word for name in platforms for word in ("--platform", name)]
    words += ["--with-obi", str(arguments.with_obi)] if arguments.with_obi else []
    words += ["--with-analysis"] if arguments.with_analysis else []
    argv = [sys.executable, str(PROJECT / "image/build.py"), "--output", str(place / "out"), *words]
    done = subprocess.run(
        argv, env=os.environ | {"XDG_CACHE_HOME": str(place / "cache")}, stdout=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        sys.exit(f"verify: the build ended with {done.returncode}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PROJECT / "build/image", help="what is verified (build/image)")
    parser.add_argument("--platform", action="append", choices=tuple(PLATFORMS), help="may be repeated (all)")
    parser.add_argument("--with-obi", type=Path, metavar="PATH", help="as it was built with")
    parser.add_argument("--with-analysis", action="store_true", help="as it was built with")
    parser.add_argument("--fresh", action="store_true", help="build kubectl, helm and jq again, too")
    arguments = parser.parse_args()
    arguments.platform = arguments.platform or list(PLATFORMS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
