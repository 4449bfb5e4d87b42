"""What a bundle says is in its images, in both formats; and that the same images give the same bundle.

The rules are those of the formats' own specifications; the numbers stand beside each. The shapes were held once
against the JSON schemas that the projects themselves publish (docs/decisions/0010-sbom.md).
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.bundle.small import ROOT, Made, make_key, small_bundle, small_images, sums

from obi_mcp.policy.image import parse_image
from obi_mcp.policy.scope import Scope

EXPECTED = {
    # kind: name, version, package URL
    ("libssl3", "3.0.22-1~deb12u2"): "pkg:deb/debian/libssl3@3.0.22-1~deb12u2?arch=amd64&distro=debian-12"
    "&upstream=openssl%403.0.22-1",
    ("Ruamel_Yaml.clib", "0.2"): "pkg:pypi/ruamel-yaml-clib@0.2",
    ("jq", "1.8.2"): "pkg:generic/jq@1.8.2",
    ("oniguruma", "6.9.10"): "pkg:generic/oniguruma@6.9.10",
    ("decnumber", "3.68"): "pkg:generic/decnumber@3.68",
    ("asn1", "0.24.1"): "pkg:cargo/asn1@0.24.1",
    ("openssl", "4.0.3"): "pkg:generic/openssl@4.0.3",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return small_bundle(tmp_path_factory.mktemp("made"))


def document(made: Made, suffix: str, architecture: str = "amd64") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((made.folder / "sbom" / f"obi-mcp-0.1.0-{architecture}.{suffix}").read_text())
    return value


def test_both_formats_list_the_same_packages(made: Made) -> None:
    spdx = {
        (one["name"], one["versionInfo"]): one["externalRefs"][0]["referenceLocator"]
        for one in document(made, "spdx.json")["packages"][1:]
    }
    cyclonedx = {(one["name"], one["version"]): one["purl"] for one in document(made, "cdx.json")["components"]}
    assert spdx == cyclonedx == EXPECTED


def test_spdx_holds_to_its_specification(made: Made) -> None:
    spdx = document(made, "spdx.json")
    # 6.1 to 6.5, 6.8 and 6.9
    assert (spdx["spdxVersion"], spdx["dataLicense"], spdx["SPDXID"]) == ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT")
    assert spdx["name"] == "obi-mcp-0.1.0-amd64"
    assert uuid.UUID(spdx["documentNamespace"].removeprefix("urn:uuid:"))
    assert all(re.fullmatch(r"(Tool|Organization|Person): .+", one) for one in spdx["creationInfo"]["creators"])
    assert datetime.strptime(spdx["creationInfo"]["created"], "%Y-%m-%dT%H:%M:%SZ").year == 2023
    identifiers = [one["SPDXID"] for one in spdx["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    for one in spdx["packages"]:
        # 7.1 name, 7.2 SPDXID, 7.7 download location, 7.8 files analyzed, 7.13, 7.15 and 7.17 licences and copyright
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one["SPDXID"])
        assert one["filesAnalyzed"] is False
        assert {"name", "downloadLocation", "licenseConcluded", "licenseDeclared", "copyrightText"} <= one.keys()
        # 7.5 supplier, 7.21 external reference
        assert re.fullmatch(r"Organization: [^<>]+ \(\S+@\S+\)", one.get("supplier", "Organization: x (a@b)"))
        reference = one["externalRefs"][0]
        assert (reference["referenceCategory"], reference["referenceType"]) == ("PACKAGE-MANAGER", "purl")
    # 11.1: what describes and contains what exists
    named = {"SPDXRef-DOCUMENT", *identifiers}
    for one in spdx["relationships"]:
        assert {one["spdxElementId"], one["relatedSpdxElement"]} <= named
    contained = {one["relatedSpdxElement"] for one in spdx["relationships"] if one["relationshipType"] == "CONTAINS"}
    assert contained == set(identifiers[1:])


def test_cyclonedx_holds_to_its_schema(made: Made) -> None:
    bom = document(made, "cdx.json")
    # bom: bomFormat, specVersion, serialNumber, version
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    assert bom["metadata"]["component"]["type"] == "container"
    references = [bom["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bom["components"])]
    assert len(set(references)) == len(references)
    for one in bom["components"]:
        # component: type and name are required; licenses is a list of one expression, or of licences
        assert one["type"] in {"library", "application"} and one["name"] and one["version"]
        assert all(set(licence) == {"expression"} for licence in one.get("licenses", ()))
    (dependencies,) = bom["dependencies"]
    assert (dependencies["ref"], dependencies["dependsOn"]) == (references[0], sorted(references[1:]))


def test_documents_are_of_their_image(made: Made) -> None:
    digests = dict(line.split() for line in (made.folder / "digests.txt").read_text().splitlines())
    assert digests["index"] == made.digest
    seen = set()
    for architecture in ("amd64", "arm64"):
        digest = digests[architecture].removeprefix("sha256:")
        image = document(made, "spdx.json", architecture)["packages"][0]
        assert image["checksums"] == [{"algorithm": "SHA256", "checksumValue": digest}]
        component = document(made, "cdx.json", architecture)["metadata"]["component"]
        assert component["hashes"] == [{"alg": "SHA-256", "content": digest}]
        seen |= {
            document(made, "spdx.json", architecture)["documentNamespace"],
            document(made, "cdx.json", architecture)["serialNumber"],
        }
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["kubectl", "helm"])
def test_modules_are_those_that_go_itself_names(name: str) -> None:
    from bundle.go_build import modules_of, read_build
    from recipes.store import Store, cache_root
    from recipes.toolchain import go as find_go

    go = find_go(Store(cache_root()))  # the one that built them
    program = (ROOT / ".venv" / "bin" / name).resolve()
    said = subprocess.run([go, "version", "-m", program], check=True, capture_output=True, text=True).stdout
    expected: list[tuple[str, str]] = []
    for line in said.splitlines()[1:]:
        _, word, *fields = line.split("\t")
        if word in {"mod", "dep"}:
            expected.append((fields[0], fields[1]))
        elif word == "=>":
            expected[-1] = (fields[0], fields[1])
    build = read_build(program.read_bytes())
    assert build is not None
    assert [(module.path, module.version) for module in modules_of(build)] == expected
    assert said.splitlines()[0].endswith(f": go{build.go}")


def test_a_program_of_a_checkout_is_listed_without_a_version_and_a_wrapper_of_ours_is_not() -> None:
    from bundle.contents import of_build
    from bundle.go_build import Build, Module

    module = Module("example.com/X/y", "v1.0.0+incompatible")
    for main, expected in (("obi-mcp/tools/kubectl", []), ("go.example.com/obi", ["pkg:golang/go.example.com/obi"])):
        found = [one.purl for one in of_build(Build("1.26", Module(main, "(devel)"), (module,)), "usr/local/bin/obi")]
        assert found == ["pkg:golang/stdlib@1.26", *expected, "pkg:golang/example.com/x/y@v1.0.0%2Bincompatible"]


def test_what_is_no_go_program_has_no_modules() -> None:
    from bundle.go_build import read_build

    assert read_build(b"") is None
    assert read_build(b"#!/bin/sh\n") is None
    assert read_build(Path("/bin/sh").read_bytes()) is None


def test_the_same_images_give_the_same_bundle(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    archives = [small_bundle(tmp_path / place, key=key).archive for place in ("one", "two")]
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_images_of_different_builds_are_refused(tmp_path: Path) -> None:
    from bundle.__main__ import write_bundle

    one, other = small_images(tmp_path / "one"), small_images(tmp_path / "other", ("amd64",))
    for layouts in ([one / "linux-amd64"], [other / "linux-amd64", one / "linux-arm64"]):
        with pytest.raises(ValueError, match="is not the index of"):
            write_bundle(layouts, tmp_path / "out")


def test_a_platform_of_an_earlier_build_is_left_out(tmp_path: Path) -> None:
    from bundle.__main__ import newest_layouts

    assert newest_layouts(tmp_path) == []
    images = small_images(tmp_path, program=Path("/bin/true"))
    assert [layout.name for layout in newest_layouts(images)] == ["linux-amd64", "linux-arm64"]
    small_images(tmp_path, ("amd64",))
    assert [layout.name for layout in newest_layouts(images)] == ["linux-amd64"]


def test_every_image_to_mirror_is_complete_and_in_the_scope(made: Made) -> None:
    lines = (made.folder / "images.txt").read_text().splitlines()
    # As docs/air-gap.md reads it.
    found = re.search(r"^(grep \S+ images\.txt) \| while", (ROOT / "docs/air-gap.md").read_text(encoding="utf-8"), re.M)
    assert found is not None
    argv = shlex.split(found[1])
    needed = subprocess.run(argv, cwd=made.folder, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    listed = [*needed, *(line[2:] for line in lines if re.match(r"# \S+/\S+:\S+$", line))]
    repositories = {parse_image(image).repository for image in listed}
    assert repositories == {parse_image(image).repository for image in Scope().images}
    assert len(needed) == 1 and needed[0].startswith("ghcr.io/")
    assert all("." in image.partition("/")[0] for image in listed)


def test_the_documents_lie_in_it_with_their_links(tmp_path: Path) -> None:
    from bundle.__main__ import write_bundle

    layouts = sorted(small_images(tmp_path, ("amd64",)).glob("linux-*"))
    documents = write_bundle(layouts, tmp_path / "out").folder / "documents"
    assert (documents / "docs" / "air-gap.md").is_file()
    for file in documents.rglob("*.md"):
        for target in re.findall(r"\]\((?!\w+:)([^)#]+)", file.read_text(encoding="utf-8")):
            inside = (file.parent / target).resolve()
            assert inside.exists() or not inside.is_relative_to(documents / "docs"), f"{file}: {target}"


def test_a_folder_with_anything_but_files_is_not_sealed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="not a plain file"):
        sums.seal(tmp_path, None)


def test_a_key_that_cannot_sign_is_said(tmp_path: Path) -> None:
    with pytest.raises(sums.SigningFailed, match="cannot sign with"):
        sums.seal(tmp_path, str(tmp_path / "no-key"))
