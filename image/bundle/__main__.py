"""``make bundle``: everything that a site without a network needs, as a folder and as one archive.

It is made of what ``make image`` left in build/image, and of this checkout's documents. The same images and documents
give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [path for path in (str(ROOT / "image"), str(ROOT / "server")) if path not in sys.path]

from layout import blob_path, read_image, write_archive  # noqa: E402
from recipes.step import say  # noqa: E402

from bundle import mirror, sums  # noqa: E402
from bundle.contents import Contents, read_contents  # noqa: E402
from bundle.cyclonedx import cyclonedx  # noqa: E402
from bundle.spdx import spdx  # noqa: E402
from obi_mcp.policy.scope import DEFAULT_IMAGES  # noqa: E402

HERE = Path(__file__).resolve().parent
DOCUMENTS = ("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")
INDEX = "index"
CREATED = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Made:
    """Where the bundle is, and the digest by which a registry shows its images."""

    folder: Path
    archive: Path
    digest: str


def main() -> int:
    """Exit code 0; 1 when a part is missing or the key cannot sign; 2 for usage."""
    arguments = _arguments()
    layouts = newest_layouts(arguments.images)
    if not layouts:
        say(f"{arguments.images} has no images: run `make image` first")
        return 1
    try:
        made = write_bundle(layouts, arguments.out, key=arguments.sign_key or None)
    except (ValueError, KeyError, sums.SigningFailed) as error:
        say(f"the bundle cannot be made: {error}")
        return 1
    size = made.archive.stat().st_size / 1e6
    print(f"{made.folder}\n{made.archive} ({size:.0f} MB)\nsha256 {sums.sha256(made.archive)}\nimages {made.digest}")
    return 0


def newest_layouts(images: Path) -> list[Path]:
    """The layouts of the platforms that the last build made; one of an earlier build may stand beside them."""
    if not (images / INDEX / "index.json").exists():
        return []
    _, listed = _read_index(images / INDEX)
    found = sorted(path.parent for path in images.glob("linux-*/oci-layout"))
    return [layout for layout in found if read_image(layout).digest in listed]


def write_bundle(layouts: Sequence[Path], out: Path, *, key: str | None = None, root: Path = ROOT) -> Made:
    """Write ``obi-mcp-VERSION`` and ``obi-mcp-VERSION.tar`` below ``out``. ``layouts``: one for each platform.

    Raises: ValueError for images that do not belong together, SigningFailed.
    """
    images = [read_contents(layout, _created(layout)) for layout in layouts]
    title, version, created = _common(images)
    name = f"{title}-{version}"
    folder = out / name
    if folder.exists():
        shutil.rmtree(folder)
    epoch = int(datetime.strptime(created + "+0000", CREATED + "%z").timestamp())
    (folder / "images").mkdir(parents=True)
    digest = _copy_index(layouts, folder / "oci")
    (folder / "sbom").mkdir()
    digests = {"index": digest}
    for layout, contents in zip(layouts, images, strict=True):
        architecture = contents.image.architecture
        write_archive(layout, folder / "images" / f"{name}-{architecture}.tar", f"{title}:{version}", epoch=epoch)
        _write_json(folder / "sbom" / f"{name}-{architecture}.spdx.json", spdx(contents))
        _write_json(folder / "sbom" / f"{name}-{architecture}.cdx.json", cyclonedx(contents))
        digests[architecture] = contents.image.digest
        digests[f"{architecture}.config"] = contents.image.config
    (folder / "digests.txt").write_text("".join(f"{key} {value}\n" for key, value in digests.items()), encoding="utf-8")
    _write_documents(folder, root, title, version, digests)
    _, tag = mirror.chart_image(root / "image" / "chart" / "obi")
    (folder / "images.txt").write_text(mirror.image_list(DEFAULT_IMAGES, tag), encoding="utf-8")
    sums.seal(folder, key)
    archive = out / f"{name}.tar"
    sums.pack(folder, archive, epoch)
    return Made(folder, archive, digest)


def _copy_index(layouts: Sequence[Path], target: Path) -> str:
    """The layout of all platforms, which stands beside the others, without taking its blobs twice; its digest."""
    source = layouts[0].parent / INDEX
    digest, listed = _read_index(source)
    if listed != {read_image(layout).digest for layout in layouts}:
        raise ValueError(f"{source} is not the index of {', '.join(layout.name for layout in layouts)}")
    shutil.copytree(source, target, copy_function=_link)
    return digest


def _read_index(layout: Path) -> tuple[str, set[str]]:
    """The digest of a layout's index, and those of the platforms' manifests in it."""
    digest = str(json.loads((layout / "index.json").read_text(encoding="utf-8"))["manifests"][0]["digest"])
    index = json.loads(blob_path(layout, digest).read_text(encoding="utf-8"))
    return digest, {one["digest"] for one in index["manifests"]}


def _link(source: str, target: str) -> None:
    """A hard link where the file system has them, else a copy."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _common(images: Sequence[Contents]) -> tuple[str, str, str]:
    """Title, version and time, which every platform's image has to share."""
    facts = {(one.title, one.version, one.created) for one in images}
    if len(facts) != 1:
        raise ValueError(f"the images are of different builds: {', '.join(' '.join(fact) for fact in sorted(facts))}")
    return facts.pop()


def _created(layout: Path) -> str:
    image = read_image(layout)
    return str(json.loads(blob_path(layout, image.config).read_text(encoding="utf-8"))["created"])


def _write_documents(folder: Path, root: Path, title: str, version: str, digests: dict[str, str]) -> None:
    """The script, its explanation, and the project's documents with the links between them."""
    script = (HERE / "load.sh").read_text(encoding="utf-8")
    (folder / "load.sh").write_text(script.replace("@TITLE@", title).replace("@VERSION@", version), encoding="utf-8")
    (folder / "load.sh").chmod(0o755)
    text = (HERE / "README.md").read_text(encoding="utf-8")
    listed = "\n".join(f"| `{key}` | `{value}` |" for key, value in digests.items())
    text = text.replace("@TITLE@", title).replace("@VERSION@", version).replace("@DIGESTS@", listed)
    (folder / "README.md").write_text(text, encoding="utf-8")
    documents = folder / "documents"
    documents.mkdir()
    for name in DOCUMENTS:
        shutil.copyfile(root / name, documents / name)
    for source in sums.files_of(root / "docs"):
        target = documents / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bundle", description=__doc__)
    parser.add_argument("--images", type=Path, default=ROOT / "build" / "image", help="where `make image` wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bundle", help="where the bundle goes")
    parser.add_argument("--sign-key", metavar="FILE", help="a private SSH key (or a public one whose agent signs)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
