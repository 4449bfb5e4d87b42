"""The base: Python and what it needs, from Debian packages; no shell, no package manager, no setuid file.

Maintainer scripts do not run, so what they would make is made here: the certificate bundle, users, links.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.step import BuildFailed
from recipes.store import Recipe, Store, Workplace

from parts import debian
from parts.bytecode import PYTHON, Python
from parts.platform import Platform

BASE_PACKAGES = (
    "base-files",
    "ca-certificates",
    "libc-bin",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "python3.11-minimal",
    "tzdata",
    "zlib1g",
)
FILTER_PACKAGES = ("coreutils", "diffutils", "grep", "libpcre2-8-0")
FILTERS = ("cut", "diff", "grep", "head", "sort", "tail", "tr", "uniq", "wc")
ANALYSIS_PACKAGES = ("libstdc++6",)
ALL_PACKAGES = (*BASE_PACKAGES, *FILTER_PACKAGES, *ANALYSIS_PACKAGES)

MODES = {"tmp": 0o1777}

_PROGRAM = re.compile(r"usr/bin/|usr/lib/[^/]+/ld-linux-")
_MERGED = re.compile(r"^(bin|sbin|lib|lib64)(?=/|$)")
_EXTENSIONS = "|".join(
    (
        *("_codecs_(cn|hk|jp|kr|tw|iso2022)", "_multibytecodec", "_crypt", "_ctypes_test", "_curses", "_curses_panel"),
        *("_dbm", "_bz2", "_lzma", "_lsprof", "_sqlite3", "_test\\w*", "_uuid", "_xx\\w*", "audioop", "nis"),
        *("ossaudiodev", "readline", "xx\\w*"),
    )
)
_STDLIB = "|".join(
    (
        *("_pydecimal", "antigravity", "cProfile", "cgi", "cgitb", "crypt", "curses", "dbm", "distutils"),
        *("doctest", "ensurepip", "ftplib", "idlelib", "imaplib", "lib2to3", "mailbox", "msilib", "nntplib", "pdb"),
        *("pickletools", "poplib", "profile", "pstats", "pydoc", "pydoc_data", "smtplib", "sqlite3", "tabnanny"),
        *("telnetlib", "test", "this", "tkinter", "trace", "turtle", "turtledemo", "venv", "xmlrpc"),
        *("aifc", "chunk", "sndhdr", "sunau", "wave", "imghdr", "uu", "xdrlib", "pipes", "nturl2path"),
    )
)
_DROPPED = re.compile(
    "|".join(
        (
            r"usr/share/(man|info|locale|lintian|bug|doc-base|perl5|python3|base-files|libc-bin|ca-certificates/(?!mozilla))",
            r"usr/share/doc/(?!.*/copyright$).*[^/]$",
            r"usr/share/zoneinfo/(right|posix)/",
            r"(usr/)?s?bin/(?!python)",
            r"etc/(?!ssl|os-release|debian_version|host\.conf|gai\.conf|bindresvport|python|profile)",
            r"etc/(profile|bindresvport|gai)",
            r"etc/ssl/(?!openssl)",
            r"usr/lib/[^/]+-linux-gnu/(gconv|engines-3|ossl-modules|audit|libmemusage|libpcprofile|libc_malloc_debug"
            r"|libanl|libexpatw|libmvec|libBrokenLocale|libthread_db|libnss_(compat|hesiod)|libnsl)",
            r"usr/lib/(sysusers\.d|tmpfiles\.d|ssl|locale/(?!C\.utf8))",
            r"usr/lib/[^/]+-linux-gnu/gconv",
            rf"usr/lib/python{PYTHON}/(config-|lib-dynload/({_EXTENSIONS})\.|({_STDLIB})(/|\.py$))",
            r"usr/share/(binfmts|applications|pixmaps|dict|debconf|common-licenses/(?!GPL|LGPL|Apache|BSD))",
            r"var/(?!lib/dpkg)",
            r"(home|root|mnt|opt|srv|media|boot|dev|proc|run|sys)(/|$)",
        )
    )
)

_USERS = (("root", 0, "/root"), ("nobody", 65534, "/nonexistent"), ("nonroot", 65532, "/tmp"))
_NOLOGIN = "/usr/sbin/nologin"


def recipe(platform: Platform, store: Store, lock: Path) -> Recipe:
    """The base's root file system, the folder ``root``."""
    packages = debian.read_lock(lock, platform, BASE_PACKAGES)

    def build(work: Workplace) -> None:
        root = Unpacking(platform, store, work).run(packages, lambda path: _DROPPED.match(path) is None)
        _complete(root, platform)

    return Recipe(f"base-{platform.architecture}", "(Debian's)", "root", (*_key(packages), _source()), build)


def compiled_recipe(platform: Platform, root: Path, python: Python) -> Recipe:
    """The base again, with byte code in the place of the library's sources."""

    def build(work: Workplace) -> None:
        shutil.copytree(root, work.out / "root", symlinks=True)
        python.compile(work.out / "root", f"usr/lib/python{PYTHON}", work, sources=False)

    return Recipe(f"base-compiled-{platform.architecture}", "", "root", (str(root).encode(), *python.key), build)


def filters_recipe(platform: Platform, store: Store, lock: Path) -> Recipe:
    """The text filters, and the library that one of them needs, at places that no base has."""
    packages = debian.read_lock(lock, platform, FILTER_PACKAGES)
    kept = re.compile(rf"usr/bin/({'|'.join(FILTERS)})$|usr/lib/[^/]+/libpcre2-8\.so|usr/share/doc/[^/]+/copyright$")

    def build(work: Workplace) -> None:
        root = Unpacking(platform, store, work).run(packages, lambda path: kept.match(path) is not None)
        (root / "usr/local/bin").mkdir(parents=True)
        for name in FILTERS:
            (root / "usr/bin" / name).rename(root / "usr/local/bin" / name)
        (root / "usr/bin").rmdir()

    return Recipe(f"filters-{platform.architecture}", "(Debian's)", "root", (*_key(packages), _source()), build)


def libraries_recipe(platform: Platform, store: Store, lock: Path, names: Sequence[str]) -> Recipe:
    """Shared libraries alone, for what is optional."""
    packages = debian.read_lock(lock, platform, names)
    kept = re.compile(r"usr/lib/[^/]+/lib[^/]*\.so|usr/share/doc/[^/]+/copyright$")

    def build(work: Workplace) -> None:
        Unpacking(platform, store, work).run(packages, lambda path: kept.match(path) is not None)

    return Recipe(f"libraries-{platform.architecture}", "(Debian's)", "root", (*_key(packages), _source()), build)


@dataclass(frozen=True, slots=True)
class Unpacking:
    """Unpacks packages for one platform during one build."""

    platform: Platform
    store: Store
    work: Workplace

    def run(self, packages: Sequence[debian.Package], wanted: Callable[[str], bool]) -> Path:
        """Unpack what is ``wanted`` of the packages into ``out/root``, with ``/lib`` and its like merged into ``/usr``.

        ``var/lib/dpkg/status.d`` names each package, as scanners expect of an image without dpkg. Raises: BuildFailed.
        """
        root, places = self.work.out / "root", self.store.root.parent / "image"
        apt = debian.apt(places / "apt" / self.platform.architecture, self.platform, self.work.steps)
        (root / "var/lib/dpkg/status.d").mkdir(parents=True)
        content = self.work.scratch / "content.tar"
        for package, file in zip(packages, apt.fetch(packages, places / "debs"), strict=True):
            with content.open("wb") as target:
                _run(["dpkg-deb", "--fsys-tarfile", str(file)], stdout=target)
            with (root / "var/lib/dpkg/status.d" / package.name).open("wb") as target:
                _run(["dpkg-deb", "--field", str(file)], stdout=target)
            _extract(content, root, wanted)
        return root


def _extract(content: Path, root: Path, wanted: Callable[[str], bool]) -> None:
    with tarfile.open(content) as archive:
        for entry in archive:
            name = _MERGED.sub(r"usr/\1", entry.name.removeprefix("./").rstrip("/"), count=1)
            if entry.isdir() or not wanted(name):
                continue
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.issym():
                path.symlink_to(entry.linkname)
            elif entry.islnk():
                source = _MERGED.sub(r"usr/\1", entry.linkname.removeprefix("./"), count=1)
                shutil.copy2(root / source, path)
            else:
                taken = archive.extractfile(entry)
                assert taken is not None
                with path.open("wb") as target:
                    shutil.copyfileobj(taken, target)
                # Of what Debian marks as runnable, only programs are to be run; nothing is setuid.
                path.chmod(0o755 if _PROGRAM.match(name) and entry.mode & 0o100 else 0o644)


def _complete(root: Path, platform: Platform) -> None:
    """What installing the packages would have left."""
    for name in ("bin", "sbin", "lib", platform.loader_link):
        if name is not None:
            (root / "usr" / name).mkdir(exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
    if not (root / "usr" / platform.loader).exists():
        raise BuildFailed(f"libc6 brought no {platform.loader}")
    (root / "usr/bin/python3").symlink_to(f"python{PYTHON}")
    for name in ("tmp", "kube", "etc/obi-mcp", "root", "proc", "sys", "dev", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for path, mode in MODES.items():
        (root / path).chmod(mode)
    certificates = root / "usr/share/ca-certificates/mozilla"
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_bytes(b"".join(file.read_bytes() for file in sorted(certificates.glob("*.crt"))))
    shutil.rmtree(certificates.parent)
    passwd = "".join(f"{name}:x:{number}:{number}::{home}:{_NOLOGIN}\n" for name, number, home in _USERS)
    (root / "etc/passwd").write_text(passwd, encoding="utf-8")
    (root / "etc/group").write_text("".join(f"{name}:x:{number}:\n" for name, number, _ in _USERS), encoding="utf-8")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n", encoding="utf-8")


def _run(argv: list[str], *, stdout: object) -> None:
    done = subprocess.run(argv, stdout=stdout, stderr=subprocess.PIPE, check=False)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.decode().strip()}")


def _key(packages: Sequence[debian.Package]) -> tuple[bytes, ...]:
    return tuple(package.line.encode() for package in packages)


def _source() -> bytes:
    """What is kept and made is written in this file, so a change of it makes everything again."""
    return inspect.getsource(sys.modules[__name__]).encode()
