"""What requests become: rows of one table, and what was rejected of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from obi_mcp.telemetry.attributes import attributes_of, first_text, json_text

if TYPE_CHECKING:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

MAX_RESOURCES = 5_000
MAX_NANOSECONDS = (1 << 63) - 1

Row = tuple[Any, ...]


@dataclass(slots=True)
class Batch:
    """The rows of one request. ``rejected`` counts what was not taken, by reason."""

    rows: list[Row] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)

    def reject(self, reason: str, count: int = 1) -> None:
        """Count what cannot be taken."""
        self.rejected[reason] = self.rejected.get(reason, 0) + count


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose telemetry it is: the columns that every row repeats."""

    resource_id: int
    service_name: str
    service_namespace: str


@dataclass(slots=True)
class Resources:
    """Every different resource that was seen, once; ``new`` are those that no table has yet.

    The first MAX_RESOURCES keep their attributes; later ones get the number -1 and are counted in ``left_out``.
    """

    new: list[Row] = field(default_factory=list)
    left_out: int = 0
    _known: dict[bytes, Sender] = field(default_factory=dict)

    @property
    def known(self) -> int:
        """How many have a row."""
        return len(self._known)

    def sender(self, resource: Resource) -> Sender:
        """The sender that a resource names."""
        key = hashlib.blake2b(resource.SerializeToString(deterministic=True), digest_size=16).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        attributes = attributes_of(resource.attributes)
        name = first_text(attributes, "service.name") or "unknown_service"
        namespace = first_text(attributes, "service.namespace", "k8s.namespace.name") or ""
        if len(self._known) >= MAX_RESOURCES:
            self.left_out += 1
            return Sender(-1, name, namespace)
        sender = Sender(len(self._known), name, namespace)
        self._known[key] = sender
        self.new.append((sender.resource_id, name, namespace, json_text(attributes)))
        return sender

    def take_new(self) -> list[Row]:
        """Rows for the table of resources; a second call gives only what came since."""
        taken, self.new = self.new, []
        return taken


def nanoseconds(*candidates: int) -> int | None:
    """The first time that is set; None when there is none or when it is beyond the year 2262."""
    chosen = next((value for value in candidates if value), 0)
    return chosen if 0 < chosen <= MAX_NANOSECONDS else None
