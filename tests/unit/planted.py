"""One hundred credentials, none of them anybody's, and the objects of a cluster in which they stand."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

FILE = Path(__file__).parents[1] / "cases" / "redaction" / "planted.yaml"
NAMESPACE = "obi-system"
NAME = "obi-planted"
LABELS = {"app.kubernetes.io/part-of": "obi", "app.kubernetes.io/name": "obi", "app.kubernetes.io/component": "planted"}
IMAGE = "ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument:v0.11.0"
DECEIVING = "seen\x1b[2K\x1b[31m\u202etxt\u2066\u200b\u00ad\ufeff\U000e0041\x07here"
"""A text that is not what it looks like: it clears a line, turns around, hides letters."""
LOOKS_LIKE = "seentxthere"
SHORTEST = 6
"""Characters of a secret that are looked for at least: shorter ones would be found by chance."""


@dataclass(frozen=True, slots=True)
class Plant:
    """One credential. ``anchor`` is a harmless text that stands beside it: where it shows, the credential was near."""

    number: int
    place: str
    kind: str
    text: str
    words: tuple[str, ...]
    """``text`` as the arguments of a container; empty elsewhere."""
    secrets: tuple[str, ...]

    @property
    def anchor(self) -> str:
        return f"beside-{self.number:03}"

    def forms(self) -> Iterator[bytes]:
        """The secret, and what a filter could have made of it: base64 at each offset, URL-encoded, reversed…"""
        for secret in self.secrets:
            raw = secret.encode()
            yield from (
                raw,
                raw[::-1],
                raw.upper(),
                raw.swapcase(),
                raw.hex().encode(),
                quote(secret, safe="").encode(),
            )
            yield secret.replace("\\", "\\\\").replace('"', '\\"').encode()
            for offset in range(3):
                # Of what stands around it, base64 mixes in up to two characters at either end.
                text = base64.b64encode(b"\0" * offset + raw).rstrip(b"=")
                yield text[(0, 2, 3)[offset] : len(text) - 2]


@lru_cache(maxsize=1)
def plants() -> tuple[Plant, ...]:
    """All of them, in the order of the file."""
    return tuple(_plant(number, row) for number, row in enumerate(yaml.safe_load(FILE.read_text("utf-8")), 1))


def at(*places: str) -> tuple[Plant, ...]:
    """Those that stand in these places."""
    return tuple(plant for plant in plants() if plant.place in places)


def found(output: bytes | str, among: Sequence[Plant] | None = None) -> list[str]:
    """Which secrets are in an output, in any form."""
    data = output.encode("utf-8", "surrogatepass") if isinstance(output, str) else output
    return [
        f"{plant.number} {plant.kind}: {form.decode()}"
        for plant in (plants() if among is None else among)
        for form in dict.fromkeys(plant.forms())
        if len(form) >= SHORTEST and form in data
    ]


def _plant(number: int, row: Mapping[str, Any]) -> Plant:
    words = row["text"] if isinstance(row["text"], list) else []
    text = "\n".join(words) if words else row["text"]
    secrets = [row["secret"]] if isinstance(row["secret"], str) else row["secret"]
    return Plant(number, row["place"], row["kind"], text, tuple(words), tuple(secrets))


# --- objects in which they stand ---


def objects() -> list[dict[str, Any]]:
    """ConfigMap and DaemonSet, as they would be created; the DaemonSet runs on one simulated node."""
    return [config_map(), daemon_set()]


def metadata() -> dict[str, Any]:
    """Name, labels, annotations."""
    notes = {f"note-{plant.anchor}": plant.text for plant in at("annotation")}
    (cause,) = at("cause")
    notes["deceiving"] = DECEIVING
    notes["kubernetes.io/change-cause"] = f"{cause.anchor} {cause.text}"
    return {"name": NAME, "namespace": NAMESPACE, "labels": dict(LABELS), "annotations": notes}


def config_map() -> dict[str, Any]:
    """Each in a key of its own."""
    data = {f"{plant.anchor}.yml": plant.text for plant in at("config")} | {"deceiving.yml": f"# {DECEIVING}\n"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(), "data": data}


def daemon_set() -> dict[str, Any]:
    """Environment and arguments, with their anchors between them."""
    variables: list[dict[str, str]] = []
    for plant in at("environment"):
        name, _, value = plant.text.partition("=")
        variables += [{"name": name, "value": value}, {"name": "ANCHOR", "value": plant.anchor}]
    variables.append({"name": "DECEIVING", "value": DECEIVING})
    words = [word for plant in at("argument") for word in (*plant.words, plant.anchor)]
    unique = {f"{number}": variable for number, variable in enumerate(variables)}
    for number, variable in unique.items():
        if variable["name"] == "ANCHOR":
            variable["name"] = f"ANCHOR_{number}"
    container = {"name": "ebpf-instrument", "image": IMAGE, "args": words, "env": list(unique.values())}
    notes = metadata()["annotations"]
    notes.pop("kubernetes.io/change-cause")
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(),
        "spec": {
            "selector": {"matchLabels": dict(LABELS)},
            "template": {
                "metadata": {"labels": dict(LABELS), "annotations": notes},
                "spec": {"nodeSelector": {"kubernetes.io/hostname": "kwok-0"}, "containers": [container]},
            },
        },
    }


def log() -> str:
    """Lines of a log, each with its anchor in a line before and a line after it."""
    lines = [f"level=INFO msg={plant.anchor}\n{plant.text}\nlevel=INFO msg=after" for plant in at("log")]
    return "\n".join([*lines, f"level=INFO msg={DECEIVING}"]) + "\n"


def values() -> dict[str, Any]:
    """Values of a release, each below its anchor."""
    return {plant.anchor: yaml.safe_load(plant.text) for plant in at("values")}
