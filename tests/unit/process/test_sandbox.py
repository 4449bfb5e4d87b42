"""What a child gets: an environment made from nothing, limits, files; and a credential plugin where one is needed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from obi_mcp import config
from obi_mcp.config import Settings
from obi_mcp.errors import ConfigError
from obi_mcp.policy.scope import Scope
from obi_mcp.process import files
from obi_mcp.process.directory import PrivateDirectory
from obi_mcp.process.programs import Program, Programs, find_programs
from obi_mcp.process.runner import Runner
from obi_mcp.process.sandbox import Sandbox
from obi_mcp.redact import Redactor

KUBECTL = Program("kubectl", "/opt/kubectl")
PROGRAMS = Programs({"kubectl": KUBECTL, "diff": Program("diff", "/usr/bin/diff")}, ("/opt",))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[PrivateDirectory]:
    made = PrivateDirectory.make({"XDG_RUNTIME_DIR": str(tmp_path)})
    yield made
    made.discard()


def sandbox(
    directory: PrivateDirectory, environment: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Sandbox:
    settings = Settings(programs=config.Programs(environment=dict(environment or {})))
    return Sandbox(settings, PROGRAMS, directory, environ or {})


def test_the_environment_is_made_from_nothing(directory: PrivateDirectory) -> None:
    environ = {
        "HOME": "/home/x",
        "LD_PRELOAD": "/evil.so",
        "EDITOR": "vi",
        "AWS_PROFILE": "x",
        "KUBECONFIG": "/k/config",
    }
    made = sandbox(directory, {"HTTPS_PROXY": "http://proxy:1", "HELM_DRIVER": "configmap"}, environ)
    env = made.head(KUBECTL, ["get"], temporary="/t", context=None).env
    assert set(env) == {
        *("PATH", "HOME", "TMPDIR", "KUBECONFIG", "KUBECACHEDIR", "KUBECTL_KUBERC", "LC_ALL", "TZ", "TERM", "NO_COLOR"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "GOGC", "GOMEMLIMIT", "GOMAXPROCS", "HTTPS_PROXY"),
        *("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_PLUGINS", "HELM_NO_PLUGINS", "HELM_DRIVER"),
        *("HELM_REPOSITORY_CONFIG", "KUBECTL_EXTERNAL_DIFF"),
    }
    assert (env["KUBECTL_KUBERC"], env["KUBECONFIG"], env["TMPDIR"]) == ("false", "/k/config", "/t")
    private = str(directory.root)
    assert all(env[name].startswith(private) for name in ("PATH", "HOME", "KUBECACHEDIR", "HELM_PLUGINS"))


def test_in_a_cluster_the_api_servers_address_is_passed_on(directory: PrivateDirectory) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_MASTER": "evil"}
    env = sandbox(directory, environ=environ).head(KUBECTL, [], temporary="/t", context=None).env
    assert (env.get("KUBERNETES_SERVICE_HOST"), "KUBECONFIG" in env, "KUBERNETES_MASTER" in env) == (
        "10.0.0.1",
        False,
        False,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "PYTHONPATH", "EDITOR", "PAGER", "KUBE_EDITOR"),
        *("KUBECTL_EXTERNAL_DIFF", "KUBECONFIG", "KUBERC", "HELM_PLUGINS", "HELM_KUBETOKEN"),
    ],
)
def test_operators_do_not_set_what_is_ours(name: str) -> None:
    settings = Settings(programs=config.Programs(environment={name: "x"}))
    with pytest.raises(ConfigError, match=f"sets {name}"):
        Runner(settings, Redactor.load())


def test_path_holds_the_allowed_programs_and_nothing_else(directory: PrivateDirectory) -> None:
    sandbox(directory)
    folder = directory.root / "bin"
    assert {link.name: os.readlink(link) for link in folder.iterdir()} == {
        "kubectl": "/opt/kubectl",
        "diff": "/usr/bin/diff",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in directory.root.rglob("*") if path.is_dir())


def test_filters_get_no_variables_no_sockets_and_no_files(directory: PrivateDirectory) -> None:
    launch = sandbox(directory).filter(Program("jq", "/opt/x/bin/jq"), ["."])
    assert launch.env == {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "1"} and launch.sockets is False
    rules = launch.rules
    assert rules is not None and rules.everything and not rules.network and rules.write == ()
    assert rules.execute == ("/opt/x/bin/jq",)
    assert set(rules.read) == {*files.LIBRARIES, "/opt/x/lib", "/opt/x/lib64"}
    limits = {which: hard for which, _, hard in launch.limits}
    assert limits[resource.RLIMIT_AS] == 512 << 20 and limits[resource.RLIMIT_FSIZE] == 0
    assert limits[resource.RLIMIT_CORE] == 0 and limits[resource.RLIMIT_CPU] == 11
    assert sandbox(directory).filter(Program("sort", "/bin/sort"), ["-r"]).argv == ("sort", "--buffer-size=256M", "-r")


def test_heads_see_the_kubeconfig_and_what_it_names_and_write_nowhere_else(
    directory: PrivateDirectory, tmp_path: Path
) -> None:
    folder = tmp_path / "kube"
    folder.mkdir()
    body = {
        "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"certificate-authority": "/pki/k8s/ca.crt"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
    }
    (folder / "config").write_text(json.dumps(body))
    made = sandbox(directory, environ={"KUBECONFIG": str(folder / "config"), "HOME": "/home/x"})
    context = asyncio.run(made.prepare(None))
    rules = made.head(KUBECTL, [], temporary="/t", context=context).rules
    assert rules is not None and rules.everything and rules.network
    assert {str(folder), "/pki/k8s"} <= set(rules.read)
    assert rules.write == (str(directory.root), "/dev/null")
    assert not {"/", "/etc", "/proc", "/home/x", "/root", "/etc/shadow"} & set(rules.read)
    assert rules.execute[:2] == ("/opt/kubectl", "/usr/bin/diff")


def test_a_replaced_kubeconfig_makes_new_rules(directory: PrivateDirectory, tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("current-context: a\n")
    made = sandbox(directory, environ={"KUBECONFIG": str(file)})

    async def key() -> tuple[str, object, str]:
        context = await made.prepare(None)
        rules = made.head(KUBECTL, [], temporary="/t", context=context).rules
        return made.kubeconfig.current, made.version, rules.key if rules else ""

    first = asyncio.run(key())
    assert asyncio.run(key()) == first
    (tmp_path / "new").write_text("current-context: b\n")
    (tmp_path / "new").replace(file)
    second = asyncio.run(key())
    assert second[0] == "b" and second[1] != first[1] and second[2] != first[2]


def test_a_credential_plugin_is_found_linked_and_left_to_read_what_it_needs(
    tmp_path: Path, directory: PrivateDirectory
) -> None:
    plugin = tmp_path / "bin" / "aws-iam"
    plugin.parent.mkdir()
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)
    users = [
        {"name": "a", "user": {"exec": {"command": "aws-iam"}}},
        {"name": "b", "user": {"exec": {"command": "gke-missing", "installHint": "Install it with gcloud"}}},
    ]
    contexts = [{"name": name, "context": {"cluster": "x", "user": name}} for name in ("a", "b")]
    (tmp_path / "config").write_text(json.dumps({"current-context": "a", "users": users, "contexts": contexts}))
    settings = Settings(programs=config.Programs(path=(str(plugin.parent),), kubeconfig=str(tmp_path / "config")))
    made = Sandbox(settings, find_programs(settings, {"PATH": ""}), directory, {})
    context = asyncio.run(made.prepare(None))
    assert made.missing_plugin(context) is None
    assert os.readlink(directory.root / "bin" / "aws-iam") == str(plugin)
    rules = made.head(KUBECTL, [], temporary="/t", context=context).rules
    assert rules is not None and not rules.everything and rules.write == (str(directory.root), "/dev/null")
    missing = made.missing_plugin(asyncio.run(made.prepare("b")))
    assert missing is not None and "the context b gets its credentials from the program gke-missing" in missing.message
    assert missing.hint is not None and missing.hint.startswith("install gke-missing, mount it into the container")
    assert missing.hint.endswith("its own hint: Install it with gcloud")


def test_helm_knows_the_configured_repositories_only(directory: PrivateDirectory) -> None:
    settings = Settings(scope=Scope(repositories={"otel": "https://example/charts"}))
    Sandbox(settings, PROGRAMS, directory, {})
    written = json.loads((directory.root / "helm" / "repositories.yaml").read_text())
    assert written["repositories"] == [{"name": "otel", "url": "https://example/charts"}]


def test_the_private_directory_is_private_and_goes(tmp_path: Path) -> None:
    place = tempfile.mkdtemp(dir="/tmp")
    made = PrivateDirectory.make({"XDG_RUNTIME_DIR": place})
    assert str(made.root.parent) == place and made.root.stat().st_mode & 0o777 == 0o700
    folder = made.new_folder()
    Path(folder, "left").write_text("x")
    made.remove(folder)
    assert not os.path.exists(folder)
    made.discard()
    os.rmdir(place)


@pytest.mark.parametrize(
    ("path", "granted"),
    [
        ("/a/kube/config", "/a/kube"),
        ("/root/config", "/root/config"),
        ("/home/x/config", "/home/x/config"),
        ("/etc/kubeconfig", "/etc/kubeconfig"),
        ("/u/config", "/u/config"),
    ],
)
def test_a_folder_that_holds_much_else_is_not_opened_for_one_file(path: str, granted: str) -> None:
    assert files.around((path,), "/u") == (granted,)


def test_a_programs_loader_is_read_from_the_program(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#! /bin/sh -e\n")
    assert files.loader_of(str(script)) == os.path.realpath("/bin/sh")
    loader = files.loader_of(os.path.realpath("/bin/sh"))
    assert loader is not None and os.access(loader, os.X_OK)
    assert files.loader_of(str(tmp_path / "missing")) is None
    (tmp_path / "data").write_bytes(b"\x7fELF")
    assert files.loader_of(str(tmp_path / "data")) is None
