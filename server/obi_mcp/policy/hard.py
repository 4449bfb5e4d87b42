"""Finds what is always denied, in a parsed command: flags, commands, kinds and values, before any rule is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from obi_mcp.command.model import Command, Flag, Operand
from obi_mcp.errors import Denied
from obi_mcp.policy.draft import Refusal, with_flag, without_flag
from obi_mcp.policy.hard_names import HARD
from obi_mcp.policy.model import Place
from obi_mcp.policy.raw import read_raw

if TYPE_CHECKING:
    from obi_mcp.command.grammar import Grammars


ROOT_FLAGS: dict[str, frozenset[str]] = {
    "kubectl": frozenset({"namespace", "context", "request-timeout", "warnings-as-errors", "v"}),
    "helm": frozenset({"namespace", "kube-context"}),
}
MAX_VERBOSITY = 4
_VERBOSITIES = frozenset(map(str, range(MAX_VERBOSITY + 1)))

_SERVER = (
    *("kubeconfig", "server", "token", "user", "cluster", "username", "password", "tls-server-name"),
    *("as", "as-group", "as-uid", "as-user-extra", "client-certificate", "client-key", "certificate-authority"),
    *("insecure-skip-tls-verify", "insecure-skip-tls-verify-backend", "ca-file", "cert-file", "key-file"),
    *("kube-apiserver", "kube-as-group", "kube-as-user", "kube-ca-file", "kube-tls-server-name", "kube-token"),
    *("kube-insecure-skip-tls-verify", "repo", "plain-http", "pass-credentials"),
)
_FILES = (
    *("kustomize", "patch-file", "from-file", "from-env-file", "output-dir", "output-directory", "plugins-dir"),
    *("post-renderer", "post-renderer-args", "set-file", "keyring"),
)
_FORCED = (
    *("force", "force-conflicts", "force-replace", "prune", "prune-allowlist", "take-ownership", "dependency-update"),
)
_UNCHECKED = ("validate", "enable-dns", "disable-openapi-validation", "skip-schema-validation")

_FLAGS: dict[str, str] = {
    **dict.fromkeys(_SERVER, "hard.identity"),
    **dict.fromkeys(_FILES, "hard.file"),
    **dict.fromkeys(_FORCED, "hard.force"),
    **dict.fromkeys(
        ("validate", "enable-dns", "disable-openapi-validation", "skip-schema-validation"), "hard.unchecked"
    ),
    **dict.fromkeys(("stdin", "tty", "interactive"), "hard.interactive"),
    **dict.fromkeys(("follow", "watch-only", "output-watch-events"), "hard.endless"),
    **dict.fromkeys(("subresource", "field-manager"), "hard.cluster"),
    "help": "hard.help",
    "edit": "hard.exec",
    "show-secrets": "hard.credentials",
}
# Flags whose value decides; read by _of_value.
_VALUED = frozenset(
    {"v", "filename", "values", "recursive", "output", "watch", "cascade", "raw", "resolve", "from", "all"}
)

_EXEC = ("exec", "attach", "cp", "debug", "run", "port-forward", "proxy", "edit", "apply edit-last-applied")
_HELM = (
    *("plugin", "repo", "registry", "push", "pull", "dependency", "package", "create", "env", "completion", "test"),
    "verify",
)
_COMMANDS: dict[tuple[str, str], str] = {
    **{("kubectl", verb): "hard.exec" for verb in _EXEC},
    **{("kubectl", verb): "hard.cluster" for verb in ("drain", "cordon", "uncordon", "taint")},
    **{("kubectl", verb): "hard.subcommand" for verb in ("plugin", "kuberc", "completion", "alpha", "kustomize")},
    **{("kubectl", verb): "hard.credentials" for verb in ("certificate", "create token", "create secret")},
    **{("helm", verb): "hard.helm" for verb in _HELM},
    ("kubectl", "auth reconcile"): "hard.credentials",
    ("kubectl", "cluster-info dump"): "hard.subcommand",
    ("kubectl", "config"): "hard.config",
    ("kubectl", "help"): "hard.help",
    ("helm", "help"): "hard.help",
}
_EDITORS = frozenset({("edit",), ("apply", "edit-last-applied")})
_EDITED = "it opens an editor, and there is no terminal to talk to"
_EDIT_HINT = "read with -o yaml, change it, then kubectl apply -f - with the document in stdin"
_CONFIG_ALLOWED = frozenset({("config", "current-context"), ("config", "get-contexts")})
_DOCUMENT_VERBS = frozenset({"create", "apply", "replace", "diff", "delete"})
_FILE_OUTPUTS = frozenset({"go-template-file", "templatefile", "jsonpath-file", "custom-columns-file"})

# Commands whose first operand names kinds; the words of explain and auth can-i only talk about them.
_TYPED = frozenset(
    {"get", "describe", "delete", "wait", "patch", "label", "annotate", "set", "rollout", "scale", "logs"}
)
_WRITING = frozenset({"delete", "patch", "label", "annotate", "set", "scale"})
_SECRETS = frozenset({"secret", "secrets"})
_MACHINERY = frozenset(
    {
        *("node", "nodes", "no", "namespace", "namespaces", "ns"),
        *("customresourcedefinition", "customresourcedefinitions", "crd", "crds"),
    }
)


def forbidden_root_flags(grammars: Grammars) -> dict[str, frozenset[str]]:
    """By program: the root flags of its grammar that are not on the allow list."""
    return {
        program: frozenset(grammar.root.persistent) - ROOT_FLAGS.get(program, frozenset())
        for program, grammar in grammars.heads.items()
    }


def check(head: Command, forbidden: frozenset[str]) -> None:
    """Refuse what is always denied; ``forbidden`` are the program's root flags off the allow list.

    Raises: Denied whose decision has a rule ``hard.NAME`` and no access level.
    """
    if head.program == "obi":
        if not head.path:
            raise _denied("hard.start", head, None, "obi without config validate or config migrate starts OBI")
        return
    _check_command(head)
    for flag in head.flags:
        name = _FLAGS.get(flag.name)
        if name is None and flag.name in forbidden:
            name = "hard.root-flag"
        if name is not None:
            raise _flag_denied(name, head, flag)
        if flag.name in _VALUED:
            _of_value(head, flag)
    if head.program == "kubectl":
        _check_kinds(head)


def _check_command(head: Command) -> None:
    path = head.path
    if not path:
        return
    name = _COMMANDS.get((head.program, path[0]))
    if name is None and len(path) > 1:
        name = _COMMANDS.get((head.program, " ".join(path[:2])))
    if name is None or path in _CONFIG_ALLOWED:
        return
    if path == ("config", "view") and head.flag("raw"):
        name = "hard.credentials"
    said = f"{head.program} {' '.join(path)} is never allowed"
    if path in _EDITORS:
        raise _denied(name, head, None, said, because=_EDITED, hint=_EDIT_HINT)
    raise _denied(name, head, None, said)


def _of_value(head: Command, flag: Flag) -> None:
    name = flag.name
    if name == "v":
        if flag.value in _VERBOSITIES:
            return
        raise _denied(
            "hard.root-flag", head, flag, f"-v={flag.value} is not one of 0 to {MAX_VERBOSITY}", without_flag(head, "v")
        )
    if name in {"filename", "values"}:
        _file_value(head, flag)
    elif name == "recursive" and head.path != ("explain",):
        raise _flag_denied("hard.file", head, flag)
    elif name == "output" and flag.value.partition("=")[0] in _FILE_OUTPUTS:
        raise _flag_denied("hard.file", head, flag, with_flag(head, "output", "json"))
    elif name == "watch" and flag.value != "false":
        raise _flag_denied("hard.endless", head, flag)
    elif name == "cascade" and flag.value not in {"background", "foreground", "true"}:
        raise _flag_denied("hard.cluster", head, flag)
    elif name == "raw":
        if head.path != ("get",) or read_raw(flag.value) is None:
            raise _denied("hard.raw", head, flag, f"--raw={flag.value} is not such a path")
    elif name in {"from", "resolve"} and head.path == ("set", "env"):
        raise _flag_denied("hard.credentials", head, flag)
    elif name == "all" and head.path == ("delete",) and flag.value != "false":
        raise _flag_denied("hard.cluster", head, flag)


def _file_value(head: Command, flag: Flag) -> None:
    takes_document = head.program == "helm" or (len(head.path) == 1 and head.path[0] in _DOCUMENT_VERBS)
    if flag.values == ("-",) and takes_document:
        return
    said = f"--{flag.name}={','.join(flag.values)}"
    why = "reads a file" if flag.values != ("-",) else f"is not for {head.program} {' '.join(head.path)}"
    raise _denied("hard.file", head, flag, f"{said} {why}", without_flag(head, flag.name))


def _check_kinds(head: Command) -> None:
    verb = head.path[0] if head.path else ""
    if verb in _TYPED:
        for at, operand in enumerate(head.operands):
            words, slash, _ = operand.text.partition("/")
            if slash or (at == 0 and verb != "logs"):
                _check_kind_words(head, operand, words)
    elif verb == "events":
        asked = head.flag("for")
        if asked and _spells(asked.value.partition("/")[0], _SECRETS):
            raise _denied("hard.credentials", head, asked, f"{asked.value!r} names a secret")


def _check_kind_words(head: Command, operand: Operand, words: str) -> None:
    for word in words.split(","):
        if _spells(word, _SECRETS):
            others = ",".join(other for other in words.split(",") if not _spells(other, _SECRETS))
            repair = None
            if others and "/" not in operand.text:
                kept = (Operand(others, operand.word), *head.operands[1:])
                repair = Command(head.program, head.path, head.flags, kept, head.dash, head.style, head.short)
            raise _denied("hard.credentials", head, operand, f"{word!r} names secrets", repair)
        if head.path[0] in _WRITING and _spells(word, _MACHINERY):
            raise _denied(
                "hard.cluster", head, operand, f"{' '.join(head.path)} of {word!r} changes the cluster itself"
            )


def _spells(word: str, kinds: frozenset[str]) -> bool:
    """Whether the word is one of the kinds, also as ``plural.version.group`` and in any case."""
    return word.partition(".")[0].strip().lower() in kinds


def _flag_denied(name: str, head: Command, flag: Flag, repair: Command | None = None) -> Denied:
    spelled = flag.spelled or f"--{flag.name}"
    if flag.spelled and not flag.spelled.startswith("--"):
        spelled = f"{flag.spelled} (--{flag.name})"
    return _denied(name, head, flag, f"{spelled} is never allowed", repair or without_flag(head, flag.name))


def _denied(
    name: str,
    head: Command,
    at: Flag | Operand | None,
    said: str,
    repair: Command | None = None,
    *,
    because: str | None = None,
    hint: str | None = None,
) -> Denied:
    """The refusal by a name of the list; ``because`` and ``hint`` where one of its cases has its own."""
    denial = HARD[name]
    return Denied(
        Refusal(
            "deny",
            name,
            f"{said}: {because or denial.because}",
            hint=hint or denial.hint,
            at=Place(stage=0, word=at.word if at else None),
            repair=repair,
        )
    )
