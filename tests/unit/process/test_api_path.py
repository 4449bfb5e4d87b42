"""Which paths the warm channel reads: plain ones of the API, and of a pod's port only metrics and health."""

from __future__ import annotations

import re

import pytest

from obi_mcp.errors import ProgramFailed
from obi_mcp.process import api_path

POD = "/api/v1/namespaces/obi/pods/obi-1"
READ = [
    "/version",
    "/api",
    "/apis",
    "/api/v1",
    "/apis/apps/v1/namespaces/obi/daemonsets?labelSelector=app%3Dobi&limit=500",
    f"{POD}",
    f"{POD}/log?tailLines=10&timestamps=true",
    f"{POD}:9090/proxy/metrics",
    f"{POD}:9090/proxy/internal/metrics",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
    "/apis/metrics.k8s.io/v1beta1/namespaces/obi/pods",
    "/api/v1/pods?watch=1&resourceVersion=5",
]
REFUSED = [
    "",
    "version",
    "//api/v1/pods",
    "/api//v1/pods",
    "/api/v1/../secrets",
    "/api/v1/./pods",
    "/api/v1/%2e%2e/x",
    "/api/v1/pods%2Fx",
    "/api/v1/pods#x",
    "/api/v1/pods x",
    "/api/v1/pods\r\nHost: x",
    "/api/v2/pods",
    "/apis/../api/v1",
    "/logs/x",
    "/metrics",
    "/openid/v1/jwks",
    "http://other/api/v1/pods",
    "/api/v1/secrets",
    "/api/v1/namespaces/obi/secrets/x",
    "/api/v1/namespaces/obi/Secrets/x",
    f"{POD}/exec?command=sh",
    f"{POD}/attach",
    f"{POD}/portforward",
    f"{POD}/proxy/metrics",
    f"{POD}:9090/proxy/",
    f"{POD}:9090/proxy/debug/pprof",
    f"{POD}:9090/proxy/metrics/../x",
    f"{POD}:x/proxy/metrics",
    "/api/v1/nodes/n/proxy/metrics",
    "/api/v1/namespaces/obi/services/x:80/proxy/metrics",
    "/api/v1/namespaces/obi/serviceaccounts/x/token",
    "/api/v1/pods?x=\n",
]


def passes_the_proxy(path: str) -> bool:
    """What kubectl proxy's own filter says: reject wins, patterns are searched for."""
    if any(re.search(pattern, path) for pattern in api_path.REJECT_PATHS.split(",")):
        return False
    return any(re.search(pattern, path) for pattern in api_path.ACCEPT_PATHS.split(","))


@pytest.mark.parametrize("target", READ)
def test_what_the_server_reads_passes_both_walls(target: str) -> None:
    assert api_path.is_read_path(target)
    assert passes_the_proxy(target.partition("?")[0].replace("%3A", ":"))


@pytest.mark.parametrize("target", REFUSED)
def test_every_other_path_is_refused(target: str) -> None:
    assert not api_path.is_read_path(target)
    with pytest.raises(ProgramFailed):
        api_path.require_read_path(target)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/secrets",
        "/api/v1/namespaces/x/secrets/y",
        f"{POD}/exec",
        "/api/v1/nodes/n/proxy/metrics",
        "/logs/",
        "/metrics",
    ],
)
def test_the_proxys_own_filter_refuses_the_worst_too(path: str) -> None:
    assert not passes_the_proxy(path)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_no_other_method_passes_the_proxy(method: str) -> None:
    assert re.search(api_path.REJECT_METHODS, method) and not re.search(api_path.REJECT_METHODS, "GET")
