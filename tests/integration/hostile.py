"""Hostile values for arguments: all that the manifest attacks of the test data hold, and what breaks out of text.

An attack on a manifest names a path and what is put there. A typed tool has no such path: it has arguments, which
become names, images, labels, variables, configuration. So every text of every attack is given to every argument.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from tests.unit.policy.manifest_cases import attacks, body_of, put

FILES = ("pods", "objects", "environment", "live")

INJECTIONS = (
    "x\nkind: Secret",
    "x\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: x}",
    "x\r\nmetadata:\r\n  name: y",
    "x\u2028kind: Secret",
    "x\u0085kind: Secret",
    'x", "namespace": "kube-system',
    "x', 'namespace': 'kube-system",
    "x' --type json -n kube-system '",
    "x' | kubectl delete ns obi '",
    "x; kubectl delete namespace obi",
    "x && id",
    "$(id)",
    "`id`",
    "${AWS_SECRET_ACCESS_KEY}",
    "$(POD_NAME)",
    "{{ .Values.secret }}",
    '{{ lookup "v1" "Secret" "" "" }}',
    "{name: x, hostPID: true}",
    "[x, y]",
    "- x",
    "x: y",
    "x #comment",
    "&a [*a]",
    "*a",
    "!!python/object/apply:os.system [id]",
    "!!binary eA==",
    "<<: *default",
    "%YAML 1.1",
    "|\n  x",
    "null",
    "true",
    "yes",
    "off",
    "1e3",
    "0x10",
    "0o17",
    "1_000",
    "12:30:45",
    "2026-11-21",
    ".inf",
    "=",
    "~",
    "",
    " ",
    "-n",
    "--namespace=kube-system",
    "--kubeconfig=/etc/shadow",
    "../../etc/passwd",
    "/proc/1/environ",
    "x\x00y",
    "x\x1b[31my",
    "x\u202ey",
    "x\u200by",
    "\uff4f\uff42\uff49",
    "\u043ebi",
    "ob\u0131",
    "\u0668\u0660\u0668\u0660",
    "obi\u0301",
    "OBI",
    "obi.",
    "-obi",
    "obi-",
    "a" * 64,
    "a" * 254,
    "kube-system",
    "default",
    "system:masters",
    "cluster-admin",
    "http://169.254.169.254/latest/meta-data",
    "https://evil.example/v1/traces",
    "http://user:secret@127.0.0.1:4318",
    "http://127.0.0.1:4318/?x={{.}}",
    "http://127.0.0.1.evil.example:4318",
    "http://[::1]:4318",
    "file:///etc/shadow",
    "http://127.0.0.1:4318\nX-Header: y",
    "http://${HOST_IP}.evil.example:4318",
    "http://${HOST_IP}:4318/${AWS_SECRET_ACCESS_KEY}",
    "otel/ebpf-instrument:v1 --privileged",
    "otel/ebpf-instrument@sha256:" + "0" * 64,
    "evil.example/otel/ebpf-instrument",
    "otel/ebpf-instrument/../alpine",
    "v1@sha256:" + "0" * 64,
    "latest\n        command: [sh]",
    "8080-99999999",
    "8080,",
)


@cache
def texts() -> tuple[str, ...]:
    """Every text of the attacks, keys too, and the injections; each once."""
    found = [text for file in FILES for attack in attacks(file) for text in _leaves(list(_given(attack)))]
    return tuple(dict.fromkeys((*found, *INJECTIONS)))


@cache
def documents() -> tuple[str, ...]:
    """Every attack as the document that it makes: where a whole configuration or values are wanted."""
    found: list[str] = []
    for file in ("pods", "objects"):
        for attack in attacks(file):
            body = attack.get("document")
            if body is None:
                body = body_of(attack.get("base", "DaemonSet"))
                put(body, attack["at"], attack["put"])
            found.append(json.dumps(body))
    found += [attack["stdin"] for attack in attacks("live") if "stdin" in attack]
    return tuple(dict.fromkeys(found))


@cache
def mappings() -> tuple[dict[str, Any], ...]:
    """Every object that an attack puts somewhere: where a patch is wanted."""
    found = [
        attack["put"] for file in ("pods", "objects", "environment") for attack in attacks(file) if "put" in attack
    ]
    flat = [one for value in found for one in (value if isinstance(value, list) else [value])]
    made = [one for one in flat if isinstance(one, dict)]
    return tuple({json.dumps(one, sort_keys=True): one for one in made}.values())


def _given(attack: dict[str, Any]) -> Iterator[Any]:
    for key in ("put", "document", "stdin", "commands"):
        if key in attack:
            yield attack[key]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield str(value)
