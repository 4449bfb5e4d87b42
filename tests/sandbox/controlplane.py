"""etcd, the API server, the controllers and the scheduler of an instance."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

from tests.sandbox import daemon, network, requests
from tests.sandbox.api import Api, wait_until
from tests.sandbox.daemon import Daemon
from tests.sandbox.instance import Instance, SandboxError
from tests.sandbox.programs import Programs

READY_WITHIN_S = 300.0
REAL_NODE = "real-0"
# The defaults make a fresh cluster wait for its service accounts.
_UNHURRIED = ("--kube-api-qps=1000", "--kube-api-burst=1000", "--leader-elect=false")


def start(instance: Instance, programs: Programs) -> Api:
    """Start etcd and the API server and wait until it is ready. Raises: SandboxError."""
    addresses = {"127.0.0.1", instance.address, str(network.KUBERNETES_SERVICE), str(network.SIMULATED_NODES[1])}
    _certify(instance, programs, sorted(addresses))
    token = _write_credentials(instance)
    # The API server tries again until the store answers.
    started = (
        _component(instance, programs, "etcd", _etcd(instance)),
        _component(instance, programs, "kube-apiserver", _api_server(instance)),
    )
    api = Api(instance.api_server, token, instance.certificates / "ca.crt")
    wait_until(
        "the API server is ready",
        api.ready,
        within_s=READY_WITHIN_S,
        check=lambda: daemon.require_alive(instance, started),
    )
    return api


def start_controllers(instance: Instance, programs: Programs) -> None:
    """Start the controller manager and the scheduler; nothing waits for them here."""
    pki = instance.certificates
    shared = (f"--kubeconfig={instance.kubeconfig}", *_UNHURRIED, f"--bind-address={_inside(instance)}")
    controllers = (
        *shared,
        f"--secure-port={instance.ports.controllers}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials",
        "--horizontal-pod-autoscaler-sync-period=5s",
    )
    _component(instance, programs, "kube-controller-manager", controllers)
    _component(instance, programs, "kube-scheduler", (*shared, f"--secure-port={instance.ports.scheduler}"))


def kubeconfig(instance: Instance, user: str, token: str) -> str:
    """A kubeconfig with one context, named after the instance's network namespace. JSON is YAML."""
    authority = instance.certificates / "ca.crt"
    name = f"obi-mcp-{instance.name}"
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": name, "cluster": {"server": instance.api_server, "certificate-authority": str(authority)}}
            ],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
            "current-context": name,
        },
        indent=2,
    )


def node_kubeconfig(instance: Instance) -> Path:
    """The kubeconfig of the real node's kubelet."""
    return instance.state / "node.kubeconfig"


def _inside(instance: Instance) -> str:
    """The address for what only other components call."""
    return instance.address if instance.index is not None else "127.0.0.1"


def _etcd(instance: Instance) -> tuple[str, ...]:
    clients = f"http://127.0.0.1:{instance.ports.etcd}"
    peers = f"http://127.0.0.1:{instance.ports.etcd_peer}"
    return (
        f"--data-dir={instance.state / 'etcd'}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
    )


def _api_server(instance: Instance) -> tuple[str, ...]:
    pki = instance.certificates
    # In a namespace of its own it may listen everywhere, so that pods reach it by the service address too.
    bind = "0.0.0.0" if instance.index is not None else "127.0.0.1"
    # The API server refuses to advertise loopback; where there is nothing else, it must not advertise itself at all.
    advertise = instance.address if instance.index is not None else str(network.SIMULATED_NODES[1])
    return (
        f"--etcd-servers=http://127.0.0.1:{instance.ports.etcd}",
        f"--bind-address={bind}",
        f"--secure-port={instance.ports.api}",
        f"--advertise-address={advertise}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--enable-aggregator-routing",
        f"--service-cluster-ip-range={network.SERVICES}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'sa.key'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--token-auth-file={instance.state / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--audit-policy-file={requests.POLICY}",
        f"--audit-log-path={requests.log_of(instance)}",
    )


def _component(instance: Instance, programs: Programs, name: str, flags: tuple[str, ...]) -> Daemon:
    return daemon.start(instance, name, (programs.cluster, name, *flags), netns=instance.netns)


def _certify(instance: Instance, programs: Programs, addresses: list[str]) -> None:
    instance.certificates.mkdir(mode=0o700)
    argv = [str(programs.companion), "certificates", str(instance.certificates), *addresses]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SandboxError(f"certificates: {done.stderr.strip()}")


def _write_credentials(instance: Instance) -> str:
    """Write the tokens and both kubeconfigs, readable to their owner alone; the administrator's token."""
    admin, node = secrets.token_hex(16), secrets.token_hex(16)
    rows = f'{admin},admin,admin,"system:masters"\n{node},system:node:{REAL_NODE},{REAL_NODE},"system:nodes"\n'
    for path, content in (
        (instance.state / "tokens.csv", rows),
        (instance.kubeconfig, kubeconfig(instance, "admin", admin)),
        (node_kubeconfig(instance), kubeconfig(instance, REAL_NODE, node)),
    ):
        path.touch(mode=0o600)
        path.write_text(content, encoding="utf-8")
    return admin
