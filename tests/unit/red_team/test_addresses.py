"""Addresses of resources: whatever a client writes into one, what comes of it are names or nothing."""

from __future__ import annotations

import pytest

from obi_mcp.errors import InvalidArgument
from obi_mcp.resources.address import Address
from obi_mcp.toolsets.base import ToolCall
from obi_mcp.toolsets.kubernetes.place import Place, name


def words_of(address: Address) -> str:
    """What of an address comes into command lines."""
    place = Place.of("read", ToolCall({"context": address.context, "namespace": address.namespace}, "test"))
    return f"{place.where} {name(address.pod, 'pod')}"


@pytest.mark.parametrize(
    "uri",
    [
        "obi://k8s/current/%2e%2e/status",
        "obi://k8s/current/kube-system%2fpods%2fx/status",
        "obi://k8s/current/obi%20-A/status",
        "obi://k8s/current/-A/status",
        "obi://k8s/current/obi%0a-A/status",
        "obi://k8s/current/%ef%bd%8fbi/status",
        f"obi://k8s/current/{'a' * 5_000}/status",
        "obi://k8s/current/obi/pods/x%3b/logs",
        "obi://k8s/current/obi/pods/--all-containers/logs",
        "obi://k8s/current/obi/pods/x%20-c%20web/logs",
        "obi://k8s/current/obi/pods/x%2f..%2f..%2fsecrets/logs",
        f"obi://k8s/current/obi/pods/{'a' * 5_000}/logs",
        "obi://k8s/current/obi/pods/x%00/logs",
        "obi://k8s/a%20b/obi/status",
        "obi://k8s/a%27%20--token=x/obi/status",
        "obi://k8s//obi/status",
        "obi://k8s/current/obi/pods//logs",
        "obi://k8s/current/obi/status?x",
        "obi://k8s/current/obi/status/..",
        "obi://k8s/current/obi/secrets",
        "OBI://k8s/current/obi/status",
        "obi://k8s/current/obi/status\n",
    ],
)
def test_an_address_becomes_names_or_nothing(uri: str) -> None:
    address = Address.parse(uri)
    if address is None:
        return
    with pytest.raises(InvalidArgument):
        words_of(address)
