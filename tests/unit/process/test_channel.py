"""What an answer that is none means to the caller."""

from __future__ import annotations

import pytest

from obi_mcp.errors import ClusterUnreachable, ObiMcpError, ProgramFailed
from obi_mcp.process.channel import refused

POD = "/api/v1/namespaces/obi/pods/obi-1:9090/proxy/internal/metrics"
SILENT = b'{"message":"error trying to reach service: dial tcp 10.96.0.3:9090: connect: connection refused","code":503}'
STATUS = b'{"kind":"Status","apiVersion":"v1","message":"error trying to reach service: connection refused","code":503}'
SAID = {STATUS: "error trying to reach service: connection refused"}

ANSWERS: list[tuple[int, bytes, str, type[ObiMcpError], str, str | None]] = [
    (503, SILENT, POD, ProgramFailed, "the pod does not answer at ", "it declares the port and does not listen on it"),
    (503, STATUS, POD, ProgramFailed, "the pod does not answer at ", "it declares the port and does not listen on it"),
    (404, b"404 page not found", POD, ProgramFailed, "404 for ", "the pod answers and has no such path"),
    (404, b"gone", "/api/v1/pods", ProgramFailed, "404 for ", None),
    (502, b"dial tcp: refused", "/api/v1/pods", ClusterUnreachable, "kubectl could not get ", "check that the address"),
    (403, b"Forbidden", "/api/v1/pods", ProgramFailed, "403 for ", None),
]


@pytest.mark.parametrize(("status", "body", "path", "kind", "message", "hint"), ANSWERS)
def test_a_silent_pod_is_not_a_silent_cluster(
    status: int, body: bytes, path: str, kind: type[ObiMcpError], message: str, hint: str | None
) -> None:
    error = refused(status, body, path)
    assert type(error) is kind and error.message == f"{message}{path}: {SAID.get(body, body.decode())}"
    assert error.hint is None if hint is None else str(error.hint).startswith(hint)
