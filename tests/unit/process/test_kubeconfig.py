"""The kubeconfig as kubectl reads it: merged, with relative paths, and with credential plugins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.errors import ConfigError
from obi_mcp.process.kubeconfig import Context, Plugin, kubeconfig_paths, read_kubeconfig


def kubeconfig(path: Path, *, current: str = "", cluster: Any = None, user: Any = None, name: str = "a") -> str:
    body = {
        "current-context": current,
        "clusters": [{"name": name, "cluster": {"server": "https://x"} | (cluster or {})}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(body))
    return str(path)


def test_the_first_file_wins(tmp_path: Path) -> None:
    one = kubeconfig(tmp_path / "1" / "c", name="a", user={"exec": {"command": "aws"}})
    two = kubeconfig(tmp_path / "2" / "c", name="a", current="b", user={"tokenFile": "x"})
    three = kubeconfig(tmp_path / "3" / "c", name="b", current="a")
    read = read_kubeconfig((one, str(tmp_path / "missing"), two, three))
    assert read.current == "b"
    b = Context("b", server="https://x")
    assert read.contexts == {"a": Context("a", (), Plugin("aws"), "https://x", "exec"), "b": b}
    assert read.context(None) == b and read.context("a") and read.context("c") is None
    assert read.missing == (str(tmp_path / "missing"),)


def test_files_are_relative_to_the_kubeconfig_that_names_them(tmp_path: Path) -> None:
    user = {
        "client-certificate": "crt",
        "client-key": "/abs/key",
        "exec": {"command": "./bin/p", "installHint": "brew\n"},
    }
    path = kubeconfig(tmp_path / "c", current="a", cluster={"certificate-authority": "../ca"}, user=user)
    context = read_kubeconfig((path,)).context(None)
    assert context == Context(
        "a",
        (f"{tmp_path}/../ca", f"{tmp_path}/crt", "/abs/key"),
        Plugin(f"{tmp_path}/./bin/p", "brew"),
        "https://x",
        "client-certificate",
    )


@pytest.mark.parametrize("text", ["", "null", "kind: Config\ncontexts: null\n", "contexts: [{name: a}]", "users: x"])
def test_what_is_not_there_is_not_there(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    assert read_kubeconfig((str(tmp_path / "c"),)).contexts == {}


@pytest.mark.parametrize(("text", "says"), [("a: [", "is not YAML"), ("- a\n", "is not a mapping")])
def test_what_is_no_kubeconfig_is_an_error_that_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_kubeconfig((str(tmp_path / "c"),))
    assert str(tmp_path / "c") in caught.value.message


def test_where_the_kubeconfig_is(tmp_path: Path) -> None:
    home = kubeconfig(tmp_path / ".kube" / "config")
    environ = {"HOME": str(tmp_path)}
    assert kubeconfig_paths(None, environ) == (home,)
    assert kubeconfig_paths(None, environ | {"KUBECONFIG": "/a:/b:/a"}) == ("/a", "/b")
    assert kubeconfig_paths("/c", environ | {"KUBECONFIG": "/a"}) == ("/c",)
    assert kubeconfig_paths(None, {"HOME": "/nowhere"}) == ()
