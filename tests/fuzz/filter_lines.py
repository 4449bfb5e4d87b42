"""Stages for the filters, by their grammars: every option in every spelling, values good and bad, words as operands."""

from __future__ import annotations

import random
from collections.abc import Sequence

from obi_mcp.command.grammar import FlagSpec, Grammars

_VALUES: dict[str, tuple[str, ...]] = {
    "lines": ("3", "-2", "+2", "0", "K", "1K", "", "x", "999999999999"),
    "bytes": ("3", "-2", "+2", "0", "1kB", "", "1-3", "-5", "2,4"),
    "max-count": ("1", "0", "-1", "x"),
    "after-context": ("1", "0", "99999"),
    "before-context": ("1", "0"),
    "context": ("1", "0", "x"),
    "regexp": (
        "a",
        "a|b",
        "-x",
        "",
        "\\(a\\)\\1",
        "[[:alpha:]]",
        "a\\|b",
        "(?R)",
        "(?C1)a",
        "\\d+",
        "(*LIMIT_MATCH=9)a",
    ),
    "color": ("never", "always", "auto", "x"),
    "key": ("1", "1,1", "2nr", "1.2,2.3", "1R", "1M", "0", "x", "2,2 "),
    "field-separator": (",", "/", "\\0", "", "ab", "é"),
    "delimiter": (",", "/", "", "ab", "é"),
    "fields": ("1", "1,2", "1-", "-3", "0", "x", "2 3"),
    "characters": ("1-3", "2", "x"),
    "output-delimiter": ("|", "", "é", "--"),
    "skip-fields": ("1", "x"),
    "skip-chars": ("1", "99999999999"),
    "check-chars": ("2",),
    "indent": ("0", "2", "7", "8", "x"),
    "arg": ("a", "b"),
    "argjson": ("a", "1"),
    "sort": ("general-numeric", "random", "version"),
    "buffer-size": ("1", "1%"),
    "temporary-directory": ("/tmp",),
    "files0-from": ("-", "/etc/passwd"),
    "compress-program": ("sh",),
    "random-source": ("/dev/urandom",),
    "check": ("quiet",),
    "batch-size": ("2",),
    "parallel": ("2",),
    "pid": ("1",),
}
_ANY = ("x", "-", "", "/etc/hostname", "1", "canary.txt", "-x", "é")
_JQ = (
    *(
        ".",
        ".a",
        ".items[]",
        ".. | numbers",
        "keys",
        "[.[]?]",
        "length",
        "-1",
        "input",
        "[inputs]",
        "$a",
        "$named",
        "$x",
    ),
    *("$ARGS", "$__loc__", "now|type", "@base64", "@sh", "@csv", 'test("a")', '"\\(.)"', "debug", "stderr", "halt"),
    *('"x"|halt_error', "input_line_number", 'splits("a")', 'getpath(["a"])', "limit(3;repeat(1))", "env", "$ENV"),
    *("$ENV.PATH", "env.OBI_CANARY", '"\\(env)"', '"\\($ENV)"', "input_filename", "get_search_list", "$__prog_args"),
    *(
        'import "canary" as c; .',
        'include "canary"; .',
        '"canary" as $x | modulemeta',
        "# x",
        ". # $ENV",
        "def f: .; f",
    ),
    *('ltrimstr("a")', 'strftime("%Y")?', "@json", "tojson|fromjson", "getpath([])", "builtins|length", "$ENV|keys"),
    *("[limit(2;range(9))]", "reduce .[]? as $i (0;.+1)", "try error catch .", "label $o | break $o", ". as [$q] | $q"),
    *("$ env", '"env"', ".env", "{env: 1}", "{$ENV}", "{env}", '.["env"]', "$ENV::x", "input|input", "ltrimstr(env)"),
)
_OPERANDS: dict[str, tuple[str, ...]] = {
    "jq": _JQ,
    "grep": _VALUES["regexp"],
    "tr": ("a-z", "A-Z", "a", "\\n", "[:lower:]", "[:upper:]", "[a*3]", "[=a=]", "\\000", "z-a", "-d", ""),
}


def stage(rng: random.Random, grammars: Grammars) -> tuple[str, ...]:
    """One filter with its words."""
    program = rng.choice(sorted(grammars.filters))
    grammar = grammars.filters[program]
    flags = list(grammar.root.flags.values())
    words: list[list[str]] = [_spell(rng, rng.choice(flags)) for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3)))]
    count = {"jq": 1, "grep": 1, "tr": rng.choice((1, 2, 2))}.get(program, 0)
    if rng.random() < 0.1:
        count += rng.choice((-1, 1, 1))
    for _ in range(max(count, 0)):
        pool = _OPERANDS.get(program, _ANY) if rng.random() < 0.93 else _ANY
        words.insert(rng.randrange(len(words) + 1), [rng.choice(pool)])
    if rng.random() < (0.3 if program in {"head", "tail"} else 0.06):
        words.insert(rng.randrange(len(words) + 1), [rng.choice(("--", "-", "-5", "+2", "-x", "--help", "-3c"))])
    return (program, *(word for group in words for word in group))


def _spell(rng: random.Random, flag: FlagSpec) -> list[str]:
    if flag.nargs > 1:
        return [f"--{flag.name}", rng.choice(("a", "named", "x")), *[rng.choice(_values(flag))] * (flag.nargs - 1)]
    if flag.type == "bool":
        if flag.short and (rng.random() < 0.7 or not flag.long):
            return [f"-{flag.short}{rng.choice(('', '', '', 'n', 'r', 'c', 's'))}"]
        return [f"--{flag.name}" if rng.random() < 0.95 else f"--{flag.name[:-1]}"]
    value = rng.choice(_values(flag))
    if flag.optional is not None and rng.random() < 0.5:
        return [f"--{flag.name}"]
    if flag.short and (rng.random() < 0.6 or not flag.long):
        group = rng.choice(("", "", "", "n", "r"))
        return [f"-{group}{flag.short}{value}"] if rng.random() < 0.5 else [f"-{group}{flag.short}", value]
    return [f"--{flag.name}={value}"] if rng.random() < 0.6 else [f"--{flag.name}", value]


def _values(flag: FlagSpec) -> Sequence[str]:
    return _VALUES.get(flag.name, _ANY)
