"""Image references: Docker's normal form, hostile spellings, and which are OBI's."""

from __future__ import annotations

import pytest

from obi_mcp.policy.image import ImageReference, is_obi_image, parse_image
from obi_mcp.policy.scope import Scope

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
GHCR = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("otel/ebpf-instrument", ImageReference("docker.io/otel/ebpf-instrument")),
        ("docker.io/otel/ebpf-instrument:v1", ImageReference("docker.io/otel/ebpf-instrument", "v1")),
        ("index.docker.io/otel/ebpf-instrument", ImageReference("docker.io/otel/ebpf-instrument")),
        ("alpine", ImageReference("docker.io/library/alpine")),
        ("docker.io/alpine", ImageReference("docker.io/library/alpine")),
        ("alpine:3.20", ImageReference("docker.io/library/alpine", "3.20")),
        (f"{GHCR}:v0.12.0@{DIGEST}", ImageReference(GHCR, "v0.12.0", DIGEST)),
        ("localhost:5000/obi", ImageReference("localhost:5000/obi")),
        ("localhost/obi", ImageReference("localhost/obi")),
        ("[::1]:5000/obi", ImageReference("[::1]:5000/obi")),
        ("GHCR.IO/x/y", ImageReference("GHCR.IO/x/y")),
        ("a--b/c__d.e_f", ImageReference("docker.io/a--b/c__d.e_f")),
    ],
)
def test_parse(text: str, expected: ImageReference) -> None:
    assert parse_image(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        HEX,
        "otel/EBPF-instrument",
        "otel/ebpf-instrument ",
        "otel/ebpf-instrument\n",
        " otel/ebpf-instrument",
        "https://ghcr.io/x/y",
        "docker://otel/ebpf-instrument",
        "otel//ebpf-instrument",
        "/otel/ebpf-instrument",
        "otel/ebpf-instrument/",
        "otel/../evil",
        "otel/ebpf-instrument:",
        "otel/ebpf-instrument:a:b",
        "otel/ebpf-instrument@",
        "otel/ebpf-instrument@sha256:abc",
        f"otel/ebpf-instrument@sha256:{HEX.upper()}",
        f"otel/ebpf-instrument@md5:{HEX[:32]}",
        f"otel/ebpf-instrument@{DIGEST}@{DIGEST}",
        f"otel/ebpf-instrument@{DIGEST}:v1",
        "otel/ebpf-instrumen\u0442",
        "otel/ebpf-instrument:\u0661",
        "otel/ebpf-instrument?x=y",
        "otel/ebpf-instrument#x",
        "user@ghcr.io/x/y",
        "x" * 2000,
        "otel/a..b",
        "otel/-a",
    ],
)
def test_not_a_reference(text: str) -> None:
    with pytest.raises(ValueError):
        parse_image(text)
    assert not is_obi_image(text, Scope())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{GHCR}:v0.12.0", True),
        (f"{GHCR}@{DIGEST}", True),
        ("otel/ebpf-instrument", True),
        ("docker.io/otel/ebpf-instrument:main", True),
        ("index.docker.io/otel/ebpf-instrument", True),
        ("grafana/beyla:2", True),
        ("alpine", False),
        ("ebpf-instrument", False),
        ("library/otel/ebpf-instrument", False),
        ("evil.example/otel/ebpf-instrument", False),
        ("docker.io.evil.example/otel/ebpf-instrument", False),
        ("ghcr.io:443/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument", False),
        (GHCR.replace("ghcr.io", "GHCR.IO"), False),
        (f"{GHCR}-evil", False),
        (f"{GHCR}/evil", False),
        ("otel/ebpf-instrument.evil", False),
        (None, False),
        (7, False),
        (["otel/ebpf-instrument"], False),
    ],
)
def test_is_obi_image(text: object, expected: bool) -> None:
    assert is_obi_image(text, Scope()) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"otel/ebpf-instrument@{DIGEST}", True),
        (f"otel/ebpf-instrument:v1@{DIGEST}", True),
        (f"otel/ebpf-instrument@sha256:{'0' * 64}", False),
        ("otel/ebpf-instrument:v1", False),
        ("otel/ebpf-instrument", False),
        (f"alpine@{DIGEST}", False),
    ],
)
def test_pinned_digests(text: str, expected: bool) -> None:
    assert is_obi_image(text, Scope(image_digests=(DIGEST,))) is expected


def test_a_configured_tag_stands_for_that_tag_only() -> None:
    scope = Scope(images=("mirror.example:5000/obi:v1", "NOT an image"))
    assert is_obi_image("mirror.example:5000/obi:v1", scope)
    assert not is_obi_image("mirror.example:5000/obi:v2", scope)
    assert not is_obi_image("NOT an image", scope)
    assert not is_obi_image("otel/ebpf-instrument", scope)
