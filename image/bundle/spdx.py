"""The contents of an image as SPDX 2.3 JSON.

Source of fact: the SPDX specification 2.3, clauses 6 (document), 7 (package), 11 (relationships), and its JSON schema.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from bundle.component import Component
from bundle.contents import Contents

_UNKNOWN = "NOASSERTION"
_NOT_FOR_IDS = re.compile(r"[^A-Za-z0-9.-]")
_MAINTAINER = re.compile(r"(?P<name>[^<]+?) *<(?P<mail>[^>]+)>")


def spdx(contents: Contents) -> dict[str, Any]:
    """The document; the same contents give the same one."""
    image = contents.image
    name = f"{contents.title}-{contents.version}-{image.architecture}"
    root = "SPDXRef-Image"
    packages = [_image(contents, root), *(_package(one) for one in contents.components)]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        # 6.5: unique for each document; made from the image's digest, so that the same image has the same.
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, f'spdx {image.digest}')}",
        "creationInfo": {
            "created": contents.created,
            "creators": [f"Tool: {contents.title}-bundle-{contents.version}"],
        },
        "documentDescribes": [root],
        "packages": packages,
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": root},
            *(
                {"spdxElementId": root, "relationshipType": "CONTAINS", "relatedSpdxElement": package["SPDXID"]}
                for package in packages[1:]
            ),
        ],
    }


def _image(contents: Contents, identifier: str) -> dict[str, Any]:
    image = contents.image
    return {
        "SPDXID": identifier,
        "name": contents.title,
        "versionInfo": contents.version,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": image.annotations.get("org.opencontainers.image.licenses", _UNKNOWN),
        "copyrightText": _UNKNOWN,
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.digest.removeprefix("sha256:")}],
        "externalRefs": [_reference(f"pkg:oci/{contents.title}@{image.digest.replace(':', '%3A')}"
                                    f"?arch={image.architecture}")],
    }  # fmt: skip


def _package(one: Component) -> dict[str, Any]:
    package: dict[str, Any] = {
        "SPDXID": _identifier(one),
        "name": one.name,
        **({"versionInfo": one.version} if one.version else {}),
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": one.licence or _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "sourceInfo": f"found in the image as {one.place}",
        "externalRefs": [_reference(one.purl)],
    }
    if supplier := _supplier(one.supplier):
        package["supplier"] = supplier
    return package


def _supplier(maintainer: str) -> str:
    """7.5: ``Person:`` or ``Organization:``, with the address in brackets."""
    found = _MAINTAINER.fullmatch(maintainer)
    if found is None:
        return ""
    name = found["name"].strip(' "')
    return f"Organization: {name} ({found['mail']})"


def _identifier(one: Component) -> str:
    """7.2: letters, numbers, dots and hyphens. A part made of the whole identity keeps two names apart."""
    told = _NOT_FOR_IDS.sub("-", f"{one.kind}-{one.name}-{one.version}")
    return f"SPDXRef-{told}-{uuid.uuid5(uuid.NAMESPACE_URL, one.identity).hex[:12]}"


def _reference(purl: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
