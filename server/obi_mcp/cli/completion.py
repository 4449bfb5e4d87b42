"""``obi-mcp completion bash|zsh|fish``: a completion script made from the verbs' own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from obi_mcp.cli.arguments import VerbParser
from obi_mcp.cli.policy import ACTIONS
from obi_mcp.cli.policy_check import check_parser
from obi_mcp.cli.verbs import VERBS, Verb

FILES = frozenset({"FILE", "DIR", "KUBECONFIG", "POLICY"})
"""Names of values that are paths."""


@dataclass(frozen=True, slots=True)
class Option:
    """One flag as it is completed: ``values`` are its choices; ``paths``: it takes a path; ``takes``: any value."""

    name: str
    help: str
    values: tuple[str, ...] = ()
    paths: bool = False
    takes: bool = False


@dataclass(frozen=True, slots=True)
class Completed:
    """What can follow one verb: words, paths, flags."""

    verb: str
    summary: str
    words: tuple[str, ...]
    paths: bool
    options: tuple[Option, ...]

    @property
    def flags(self) -> str:
        return " ".join(option.name for option in self.options)


def parser() -> VerbParser:
    """The arguments of ``completion``."""
    made = VerbParser("obi-mcp completion", "Prints a completion script: source it from your shell's start-up file.")
    made.add_argument("shell", choices=sorted(SHELLS), help="which shell it is for")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints the script of one shell."""
    args = parser().parse_args(argv)
    print(SHELLS[args.shell](completed_verbs()), end="")
    return 0


def completed_verbs() -> tuple[Completed, ...]:
    """What every verb takes, as its parser says."""
    return tuple(_completed(verb.name, verb.summary, _parser(verb)) for verb in VERBS)


def _parser(verb: Verb) -> argparse.ArgumentParser:
    """The parser of a verb; of ``policy``, whose actions have one each, that of ``check`` behind the actions' names."""
    if verb.name != "policy":
        made: argparse.ArgumentParser = import_module(f"obi_mcp.cli.{verb.module}").parser()
        return made
    policy = VerbParser("obi-mcp policy", verb.summary)
    policy.add_argument("action", choices=list(ACTIONS))
    for action in check_parser()._actions:
        if action.option_strings and action.dest != "help":
            policy._add_action(action)
    return policy


def _completed(verb: str, summary: str, made: argparse.ArgumentParser) -> Completed:
    words: list[str] = []
    options: dict[str, Option] = {}
    paths = False
    for action in made._actions:
        if not action.option_strings:
            words.extend(map(str, action.choices or ()))
            paths = paths or action.metavar in FILES
        else:
            option = _option(action)
            options[option.name] = option
    if verb == "call":
        words.extend(_tool_names())
    return Completed(verb, summary, tuple(words), paths, tuple(options.values()))


def _option(action: argparse.Action) -> Option:
    name = max(action.option_strings, key=len)
    text = (action.help or "").split(".")[0].split(";")[0].replace("'", "").replace("%%", "%")
    takes = action.nargs != 0
    return Option(name, text, tuple(map(str, action.choices or ())), takes and action.metavar in FILES, takes)


def _tool_names() -> list[str]:
    from obi_mcp.config import Settings
    from obi_mcp.policy.model import Access
    from obi_mcp.toolsets.registry import ALL, listed_tools

    return [spec.name for spec in listed_tools(Settings(access=Access.FULL, toolsets=(ALL,)))]


# --- shells ---


def _bash(verbs: Sequence[Completed]) -> str:
    values = [
        f"      {verb.verb}:{option.name}) {_compgen(' '.join(option.values), paths=option.paths)}; return ;;"
        for verb in verbs
        for option in verb.options
        if option.values or option.paths
    ]
    words = [
        f"      {verb.verb}:2) {_compgen(' '.join((*verb.words, verb.flags)), paths=False)} ;;\n"
        f"      {verb.verb}:*) {_compgen(verb.flags, paths=verb.paths)} ;;"
        for verb in verbs
    ]
    lines = [
        "# bash completion of obi-mcp: source <(obi-mcp completion bash)",
        "_obi_mcp() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" verb="${COMP_WORDS[1]}"',
        '  if [ "$COMP_CWORD" -eq 1 ]; then',
        f"    {_compgen(' '.join(verb.verb for verb in verbs) + ' --help --version', paths=False)}",
        "    return",
        "  fi",
        '  case "$verb:$before" in',
        *values,
        "  esac",
        '  case "$verb:$COMP_CWORD" in',
        *words,
        "  esac",
        "}",
        "complete -F _obi_mcp obi-mcp",
    ]
    return "\n".join(lines) + "\n"


def _compgen(words: str, *, paths: bool) -> str:
    listed = f' -W "{words}"' if words else ""
    return f'COMPREPLY=($(compgen{" -f" if paths else ""}{listed} -- "$word"))'


def _zsh(verbs: Sequence[Completed]) -> str:
    lines = [
        "#compdef obi-mcp",
        "# zsh completion of obi-mcp: source <(obi-mcp completion zsh)",
        "_obi_mcp() {",
        "  local -a verbs",
        "  verbs=(",
        *(f"    '{verb.verb}:{verb.summary}'" for verb in verbs),
        "  )",
        "  if (( CURRENT == 2 )); then",
        "    _describe verb verbs",
        "    return",
        "  fi",
        '  case "${words[2]}" in',
    ]
    for verb in verbs:
        lines.append(f"    {verb.verb})")
        lines.append("      shift words; (( CURRENT-- ))")
        arguments = [f"      _arguments \\\n{_zsh_options(verb)}"]
        lines.extend([*arguments, "      ;;"])
    lines.extend(["  esac", "}", "compdef _obi_mcp obi-mcp"])
    return "\n".join(lines) + "\n"


def _zsh_options(verb: Completed) -> str:
    rows = []
    for option in verb.options:
        action = f":value:({' '.join(option.values)})" if option.values else ":value: " if option.takes else ""
        if option.paths:
            action = ":file:_files"
        rows.append(
            f"        '{option.name}[{option.help.replace('[', '(').replace(']', ')').replace(':', '')}]{action}'"
        )
    rest = f"({' '.join(verb.words)})" if verb.words else "_files" if verb.paths else " "
    rows.append(f"        '1:word:{rest}'")
    rows.append(f"        '*:word:{'_files' if verb.paths else ' '}'")
    return " \\\n".join(rows)


def _fish(verbs: Sequence[Completed]) -> str:
    lines = ["# fish completion of obi-mcp: obi-mcp completion fish | source", "complete -c obi-mcp -f"]
    for verb in verbs:
        lines.append(f"complete -c obi-mcp -n __fish_use_subcommand -a {verb.verb} -d '{verb.summary}'")
    for verb in verbs:
        seen = f"complete -c obi-mcp -n '__fish_seen_subcommand_from {verb.verb}'"
        if verb.words:
            lines.append(f"{seen} -a '{' '.join(verb.words)}'")
        if verb.paths:
            lines.append(f"{seen} -F")
        for option in verb.options:
            value = f" -x -a '{' '.join(option.values)}'" if option.values else " -x" if option.takes else ""
            value = " -r -F" if option.paths else value
            lines.append(f"{seen} -l {option.name.removeprefix('--')}{value} -d '{option.help}'")
    return "\n".join(lines) + "\n"


SHELLS: Mapping[str, Callable[[Sequence[Completed]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
