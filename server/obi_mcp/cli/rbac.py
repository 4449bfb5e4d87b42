"""``obi-mcp rbac``: the least rights in a cluster for this server, as manifests to be applied by an administrator."""

from __future__ import annotations

from collections.abc import Sequence

from obi_mcp.cli.arguments import VerbParser, add_settings_flags, settings_from
from obi_mcp.obi.server_rights import NAME, ServerRights, commented, server_rights
from obi_mcp.policy.engine import Policy


def parser() -> VerbParser:
    """The flags of ``rbac``."""
    made = VerbParser(
        "obi-mcp rbac",
        "Writes the least ServiceAccount, ClusterRole, Roles and bindings for this server at an access level. "
        "Each rule says what it is for. An administrator applies them; this server never does.",
    )
    made.add_argument(
        "--namespace",
        action="append",
        default=[],
        metavar="NAME",
        help="where OBI may be; it has to exist; may be repeated; default: scope.namespaces",
    )
    made.add_argument(
        "--account-namespace", metavar="NAME", help="where the account lives; default: the first namespace"
    )
    made.add_argument("--everywhere", action="store_true", help="lists over all namespaces (kubectl -A) work too")
    made.add_argument("--no-helm", action="store_true", help="no secrets: helm keeps releases in them")
    made.add_argument(
        "--name", default=NAME, help="of the account and its roles, for several servers in a cluster (%(default)s)"
    )
    add_settings_flags(made, "access", "policy")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints the objects as one YAML stream."""
    args = parser().parse_args(argv)
    settings = settings_from(args).settings
    namespaces = tuple(dict.fromkeys(args.namespace)) or settings.scope.namespaces
    policy = Policy.load(settings)
    asked = ServerRights(
        access=settings.access,
        namespaces=namespaces,
        account_namespace=args.account_namespace or namespaces[0],
        cluster_objects=tuple(sorted(settings.scope.known_cluster_objects())),
        everywhere=args.everywhere,
        helm=not args.no_helm,
        instrumented=settings.scope.instrumented_namespaces,
        name=args.name,
    )
    print(commented(server_rights(asked, policy.resources)), end="")
    return 0
