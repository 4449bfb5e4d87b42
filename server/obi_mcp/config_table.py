"""Every setting there is: its name, what it means, its unit and its bounds. The one place that documentation,
validation and ``obi-mcp config show`` read. Types and defaults come from the dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from obi_mcp.config import Settings

NOT_SETTINGS = frozenset({"source"})
"""Fields of ``Settings`` that say where it came from; nobody sets them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. ``key`` is the name in the file (``limits.timeout_s``); ``attribute`` the field behind it, where it
    differs. ``secret``: shown as ``[redacted]``. ``flag``: the flag of ``obi-mcp serve`` that sets it."""

    key: str
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    attribute: str = ""
    secret: bool = False
    flag: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """Attribute names from ``Settings`` down."""
        *section, name = self.key.split(".")
        return (*section, self.attribute or name)

    @property
    def variable(self) -> str:
        """The environment variable: ``OBI_MCP_LIMITS__TIMEOUT_S``."""
        return "OBI_MCP_" + self.key.replace(".", "__").upper()


SETTINGS = (
    Setting(
        "access",
        "How much a caller may change; a caller can only lower it.",
        choices=("read-only", "non-destructive", "full"),
        flag="--access",
    ),
    Setting(
        "toolsets",
        "Groups of tools that are offered: command, local, kubernetes, helm, docker; `all` for every one.",
        flag="--toolsets",
    ),
    Setting(
        "policy",
        "Directory of your own rules and scope, layered over the built-in policy.",
        attribute="policy_directory",
        flag="--policy",
    ),
    Setting(
        "log_level",
        "Least severe log line that is written to standard error.",
        choices=("debug", "info", "warning", "error"),
        flag="--log-level",
    ),
    Setting(
        "confirm",
        "Which changes a person has to confirm through the client; one that cannot ask is refused them.",
        choices=("never", "destructive", "always"),
        flag="--confirm",
    ),
    Setting(
        "confine",
        "Whether the server holds itself to the files that it needs (Landlock), as far as the kernel can.",
        choices=("auto", "none"),
        flag="--confine",
    ),
    Setting("scope.selectors", "Label selectors that mark candidates for being OBI's."),
    Setting("scope.images", "Image repositories whose containers may be called OBI's; add your mirrors."),
    Setting("scope.image_digests", "If set, only these digests (`sha256:…`) of those images may be written."),
    Setting("scope.namespaces", "Namespaces where OBI may be installed."),
    Setting(
        "scope.default_namespace",
        "Namespace of a command without `-n`. If only `scope.namespaces` is set, its first one.",
    ),
    Setting("scope.releases", "Helm release names, each with the chart names it may have."),
    Setting(
        "scope.cluster_objects",
        "Names of cluster-scoped objects that are OBI's; empty: those that follow from `scope.releases`.",
    ),
    Setting("scope.contexts", "Kubeconfig contexts that a caller may name; empty: the current one only."),
    Setting("scope.endpoints", "Hosts, besides in-cluster ones, that OBI may be told to send telemetry to."),
    Setting(
        "scope.instrumented_namespaces",
        "Namespaces that OBI watches: workload status may be read there, and a Deployment may get OBI as a sidecar.",
    ),
    Setting("scope.allowed_secrets", "Names of secrets that OBI's pods may refer to."),
    Setting("scope.allow_privileged", "Whether the DaemonSet may be `privileged: true`."),
    Setting("scope.charts_trusted", "Charts that may use `lookup`, random functions or `crds/`."),
    Setting("scope.repositories", "Chart repositories by name, each an `https://` or `oci://` address.", secret=True),
    Setting("scope.chart_hosts", "Hosts, besides a repository's own, where its index may keep archives."),
    Setting("scope.chart_digests", "`REPO/NAME@VERSION` with the `sha256:…` that its archive must have."),
    Setting("programs.path", "Directories searched for kubectl, helm, jq and the filters, before PATH."),
    Setting(
        "programs.kubeconfig",
        "The kubeconfig file; unset: `KUBECONFIG`, else `~/.kube/config`.",
        flag="--kubeconfig",
    ),
    Setting(
        "programs.environment",
        "Variables that programs get besides the server's own: proxies, credentials of an exec plugin.",
        secret=True,
    ),
    Setting("programs.chart_store", "Directory of charts that may be installed; unset: the shipped one."),
    Setting("limits.timeout_s", "Deadline of a call that names none.", unit="s", minimum=0.1, maximum=3600),
    Setting("limits.max_timeout_s", "Longest deadline that a call may ask for.", unit="s", minimum=0.1, maximum=3600),
    Setting("limits.max_bytes", "Output of a call that names no budget.", unit="bytes", minimum=1024),
    Setting("limits.max_max_bytes", "Largest output that a call may ask for.", unit="bytes", minimum=1024),
    Setting("limits.max_stdin_bytes", "Largest `stdin` of a call.", unit="bytes", minimum=1, maximum=16 * 1024 * 1024),
    Setting("limits.max_children", "Commands that run at once.", minimum=1, maximum=1024),
    Setting("limits.max_waiting", "Calls that may wait; a further one gets `busy`.", minimum=0, maximum=65536),
    Setting(
        "limits.confirm_timeout_s", "How long a person has to confirm a change.", unit="s", minimum=1, maximum=3600
    ),
    Setting(
        "audit.file",
        "File of the audit log; unset or `-`: standard error.",
        flag="--audit-file",
    ),
    Setting("obi.version", "Version of the obi binary, like `0.12.0`; unset: unknown."),
    Setting(
        "local.binary",
        "The OBI program that runs on this host; unset: the first of obi, ebpf-instrument and beyla that is found.",
    ),
    Setting("local.config_directories", "Directories from which `config_path` may name a configuration of OBI's."),
    Setting(
        "local.log_bytes",
        "Most that the log of the agent on this host takes on the disk; older lines go.",
        unit="bytes",
        minimum=1_048_576,
        maximum=1_073_741_824,
    ),
    Setting(
        "docker.host",
        "The Docker engine: `unix://` or `tcp://`; unset: `DOCKER_HOST`, else `unix:///var/run/docker.sock`.",
    ),
    Setting("docker.mounts", "Paths of the engine's host that OBI's container may see, besides those it needs."),
    Setting(
        "capture.port", "Loopback port of the built-in OTLP receiver; 0: one that is free.", minimum=0, maximum=65535
    ),
    Setting("capture.directory", "Where captured telemetry is kept; unset: the server's state directory."),
    Setting(
        "capture.max_rows",
        "Spans, metric points, log records that are kept, of each so many; the oldest are dropped.",
        minimum=1000,
        maximum=100_000_000,
    ),
    Setting(
        "capture.max_disk_bytes",
        "Most that captured telemetry takes on the disk; the oldest is dropped.",
        unit="bytes",
        minimum=1_048_576,
        maximum=1_099_511_627_776,
    ),
)


def setting_type(setting: Setting) -> Any:
    """The type of a setting's field, as its dataclass declares it."""
    owner: Any = Settings
    for name in setting.path[:-1]:
        owner = get_type_hints(owner)[name]
    return get_type_hints(owner)[setting.path[-1]]


def setting_default(setting: Setting) -> Any:
    """The value of a setting that nobody set."""
    return setting_value(Settings(), setting)


def setting_value(settings: Settings, setting: Setting) -> Any:
    """The value of a setting in ``settings``."""
    value: Any = settings
    for name in setting.path:
        value = getattr(value, name)
    return value


def declared_paths(owner: type = Settings, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Attribute paths of every field of ``Settings`` and its sections: what the table has to cover."""
    hints = get_type_hints(owner)
    for entry in fields(owner):
        kind = hints[entry.name]
        if not prefix and entry.name in NOT_SETTINGS:
            continue
        if isinstance(kind, type) and is_dataclass(kind):
            yield from declared_paths(kind, (*prefix, entry.name))
        else:
            assert entry.default is not MISSING or entry.default_factory is not MISSING
            yield (*prefix, entry.name)
