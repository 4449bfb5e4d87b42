"""The contents of an image as CycloneDX 1.6 JSON.

Source of fact: the CycloneDX 1.6 JSON schema (bom, metadata, component, dependency).
"""

from __future__ import annotations

import uuid
from typing import Any

from bundle.component import Component
from bundle.contents import Contents


def cyclonedx(contents: Contents) -> dict[str, Any]:
    """The bill of materials; the same contents give the same one."""
    image = contents.image
    root = f"pkg:oci/{contents.title}@{image.digest.replace(':', '%3A')}?arch={image.architecture}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'cyclonedx {image.digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": contents.created,
            "tools": {
                "components": [{"type": "application", "name": f"{contents.title}-bundle", "version": contents.version}]
            },
            "component": {
                "type": "container",
                "bom-ref": root,
                "name": contents.title,
                "version": contents.version,
                "purl": root,
                "hashes": [{"alg": "SHA-256", "content": image.digest.removeprefix("sha256:")}],
            },
        },
        "components": [_component(one) for one in contents.components],
        "dependencies": [{"ref": root, "dependsOn": sorted({one.identity for one in contents.components})}],
    }


def _component(one: Component) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "application" if one.kind == "generic" else "library",
        "bom-ref": one.identity,
        "name": one.name,
        **({"version": one.version} if one.version else {}),
        "purl": one.purl,
        "evidence": {"occurrences": [{"location": one.place}]},
    }
    if one.licence:
        component["licenses"] = [{"expression": one.licence}]
    if one.supplier:
        component["publisher"] = one.supplier
    return component
