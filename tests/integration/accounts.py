"""Accounts with exactly the rights that ``obi-mcp rbac`` writes, each with a kubeconfig of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.sandbox.sandbox import Sandbox


@dataclass(frozen=True)
class Administrator:
    """Somebody who may do everything, with the real kubectl."""

    sandbox: Sandbox
    programs: Path

    def kubectl(self, *words: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """What kubectl prints. Raises: CalledProcessError."""
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or self.sandbox.kubeconfig)}
        argv = [str(self.programs / "kubectl"), *words]
        done = subprocess.run(argv, env=environment, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout.strip()


@dataclass(frozen=True)
class Account:
    """A service account with the rights of one level in one namespace. ``rights`` is what was applied."""

    name: str
    namespace: str
    kubeconfig: Path
    rights: tuple[dict[str, Any], ...]

    @property
    def user(self) -> str:
        """As the API server knows it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    @property
    def settings(self) -> dict[str, str]:
        """Of a server that speaks as this account."""
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "OBI_MCP_PROGRAMS__KUBECONFIG": str(self.kubeconfig),
            "OBI_MCP_TOOLSETS": '["kubernetes"]',
            "OBI_MCP_SCOPE__DEFAULT_NAMESPACE": self.namespace,
        }


def account(
    administrator: Administrator, directory: Path, access: str, namespace: str, *flags: str, **environment: str
) -> Account:
    """Applies what ``obi-mcp rbac`` writes for that level, under a name of its own."""
    name = f"obi-mcp-{access}"
    command = [sys.executable, "-m", "obi_mcp", "rbac", "--access", access, "--namespace", namespace, "--name", name]
    written = subprocess.run(
        [*command, *flags], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    administrator.kubectl("apply", "-f", "-", stdin=written.stdout)
    config: dict[str, Any] = yaml.safe_load(administrator.sandbox.kubeconfig.read_text())
    token = administrator.kubectl("create", "token", name, "-n", namespace)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = directory / f"kubeconfig-{access}-{namespace}"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return Account(name, namespace, path, tuple(yaml.safe_load_all(written.stdout)))


def remove(administrator: Administrator, made: Account) -> None:
    """Takes the account and its rights away again."""
    administrator.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=yaml.safe_dump_all(made.rights))
