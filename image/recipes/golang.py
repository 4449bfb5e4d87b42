"""kubectl and helm: built from the Go modules under ``image/tools``, whose go.mod pins them, with their grammars."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from recipes import toolchain
from recipes.step import BuildFailed
from recipes.store import Recipe, Store, Workplace

BUILD_FLAGS = ("-trimpath", "-buildvcs=false")


@dataclass(frozen=True, slots=True)
class GoProgram:
    """One program of one module. ``version_argv`` makes it print its version as a word, ``v`` included."""

    name: str
    version: str
    package: str
    sources: tuple[Path, ...]
    ldflags: tuple[str, ...]
    version_argv: tuple[str, ...]

    def recipe(self, tools: Path, store: Store, *, architecture: str | None = None) -> Recipe:
        """How the program itself is made, for this machine or for another ``architecture`` in Go's terms."""
        linked = " ".join(("-s -w", *(f"-X {flag}" for flag in self.ldflags)))

        def build(work: Workplace) -> None:
            binary = work.out / "bin" / self.name
            directory, compiler = tools / self.name, toolchain.go(store)
            options = {"GOARCH": architecture} if architecture else {}
            _go_build(work, compiler, directory, package=self.package, ldflags=linked, binary=binary, **options)
            if architecture is None:
                self._check_version(binary, work)
            elif f"v{self.version}".encode() not in binary.read_bytes():
                raise BuildFailed(f"{self.name}: built for v{self.version}, which {binary} does not name")

        inputs = (*_contents(tools, self.name, self.sources), self.package.encode(), linked.encode())
        inputs = (*inputs, repr(BUILD_FLAGS).encode(), *([architecture.encode()] if architecture else []))
        name = f"{self.name}-{architecture}" if architecture else self.name
        return Recipe(name, self.version, f"bin/{self.name}", inputs, build)

    def grammar_recipe(self, tools: Path, store: Store) -> Recipe:
        """How the program's grammar is made: its command tree is linked into a program that prints it."""

        def build(work: Workplace) -> None:
            binary = work.scratch / "grammar"
            directory, compiler = tools / self.name, toolchain.go(store)
            _go_build(work, compiler, directory, package="./cmd/grammar", ldflags="-s -w", binary=binary)
            # Nothing of this machine may show in it: no plugins, settings or feature gates.
            environment = {"HOME": str(work.scratch), "PATH": str(work.scratch)}
            (work.out / "grammar.json").write_text(_output([str(binary)], environment), encoding="utf-8")

        sources = (*_go_files(tools / self.name / "cmd/grammar"), *_go_files(tools / "grammar"))
        inputs = _contents(tools, self.name, sources)
        return Recipe(f"{self.name}-grammar", self.version, "grammar.json", inputs, build)

    def oracle_recipe(self, tools: Path, store: Store) -> Recipe:
        """How the program's oracle is made: its command tree linked into one that says how it reads an argv."""

        def build(work: Workplace) -> None:
            directory, compiler = tools / self.name, toolchain.go(store)
            binary = work.out / "bin" / "oracle"
            _go_build(work, compiler, directory, package="./cmd/oracle", ldflags="-s -w", binary=binary)

        sources = (*_go_files(tools / self.name / "cmd/oracle"), *_go_files(tools / "grammar/oracle"))
        inputs = _contents(tools, self.name, sources)
        return Recipe(f"{self.name}-oracle", self.version, "bin/oracle", inputs, build)

    def _check_version(self, binary: Path, work: Workplace) -> None:
        environment = {"HOME": str(work.scratch), "PATH": str(work.scratch)}
        said = _output([str(binary), *self.version_argv], environment)
        if f"v{self.version}" not in said.split():
            raise BuildFailed(f"{self.name}: built for v{self.version}, but it says {said.strip()}")


def kubectl(tools: Path) -> GoProgram:
    """kubectl; the staging modules count 0.36.3 where Kubernetes counts 1.36.3."""
    version = "1" + _pinned(tools / "kubectl/go.mod", "k8s.io/kubectl").removeprefix("0")
    major, minor, _ = version.split(".")
    facts = (f"gitVersion=v{version}", f"gitMajor={major}", f"gitMinor={minor}", "gitTreeState=clean", "gitCommit=")
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return GoProgram(
        name="kubectl",
        version=version,
        package="./cmd/kubectl",
        sources=_go_files(tools / "kubectl/cmd/kubectl"),
        ldflags=tuple(f"{package}.{fact}" for package in packages for fact in facts),
        version_argv=("version", "--client"),
    )


def helm(tools: Path) -> GoProgram:
    """helm, whose own main package is built."""
    version = _pinned(tools / "helm/go.mod", "helm.sh/helm/v4")
    package = "helm.sh/helm/v4/internal/version"
    return GoProgram(
        name="helm",
        version=version,
        package="helm.sh/helm/v4/cmd/helm",
        sources=(),
        ldflags=(f"{package}.version=v{version}", f"{package}.gitTreeState=clean"),
        version_argv=("version", "--template", "{{.Version}}"),
    )


def _go_build(
    work: Workplace, compiler: str, directory: Path, *, package: str, ldflags: str, binary: Path, **options: str
) -> None:
    argv = [compiler, "build", "-v", *BUILD_FLAGS, f"-ldflags={ldflags}", "-o", str(binary), package]
    work.steps.run(argv, cwd=directory, env=toolchain.go_environment() | options)


def _pinned(go_mod: Path, module: str) -> str:
    """The version, without its v, that a go.mod requires of a module. Raises: BuildFailed."""
    found = re.search(rf"^(?:require)?\s+{re.escape(module)} v(\S+)$", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise BuildFailed(f"{go_mod} does not require {module}")
    return found[1]


def _go_files(directory: Path) -> tuple[Path, ...]:
    return tuple(sorted(directory.glob("*.go")))


def _contents(tools: Path, name: str, sources: tuple[Path, ...]) -> tuple[bytes, ...]:
    """What a build's key covers: the pinned modules and our own sources, by name and content."""
    files = (tools / name / "go.mod", tools / name / "go.sum", *sources)
    return tuple(part for file in files for part in (str(file.relative_to(tools)).encode(), file.read_bytes()))


def _output(argv: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
