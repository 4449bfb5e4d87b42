"""jq programs: what reaches outside is denied wherever it stands; the real jq agrees on what compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from obi_mcp.policy.expressions import ExpressionDenied
from obi_mcp.policy.expressions.jq import MAX_PROGRAM, check_program

ALLOWED = (
    ".",
    ".items[].metadata.name",
    '.items[] | .metadata.name | select(. != "env")',
    '.items[] | select(.status.phase != "Running") | .metadata.name',
    "[.items[].status.nodeInfo.kernelVersion] | unique",
    ".spec.containers[].env",
    ".spec.containers[].env[]?.name",
    '."env"',
    '.["env"]',
    "{env: 1}",
    "{a: 1, env: .x}",
    "{import: 1, include: 2, module: 3}",
    "[.items[] | {name: .metadata.name, env: (.spec.containers[0].env | length)}]",
    ". as {env: $e} | $e",
    ". as {a: $x, env: [$y]} | [$x, $y]",
    "reduce .[]? as {env: $x} (0; . + 1)",
    "$__loc__",
    "{$__loc__}",
    '"import include $ENV env # input_filename"',
    '"a \\(.a | tostring) b"',
    '"a\\("b\\("c")")"',
    '@base64 "x\\(.a)"',
    "@json",
    '"\\u0041\\"\\\\"',
    '"#"',
    '. // "x" | .a?',
    ". as [$a] ?// $a | 1",
    ".a |= 1 | .b += 2 | .c //= 3",
    "if .a then 1 elif .b then 2 else 3 end",
    "def f(g): g | length; f(.a)",
    'try error("x") catch .',
    "[limit(3; .[]?)]",
    "[.. | objects | .env?]",
    ".a[1:2], .a[-1]?",
    "1.5e3 + .5 - 1.",
    "label $out | 1, break $out",
    "input_line_number",
    "[inputs]",
    'to_entries | map(select(.key | test("^env$"))) | from_entries',
    ".environment, .envs",
    'now | strftime("%Y")',
    '. == "\u00e9"',
)

DENIED = (
    ("env", 1),
    ("env.PATH", 1),
    (". | env", 5),
    ("$ENV", 1),
    ("$ENV.PATH", 1),
    ("$ ENV", 1),
    ("$\nENV", 1),
    ("$#c\nENV", 1),
    ("{$ENV}", 2),
    ("{env}", 2),
    ("{env: env}", 7),
    ("{a: 1 | env}", 9),
    ("{(env): 1}", 3),
    ('{"a": env}', 7),
    ('{env: 1, "b": env}', 15),
    ("{a:1|env:2}", 6),
    (".[env]", 3),
    (".[env:1]", 3),
    ("[env]", 2),
    (". env", 3),
    ('"\\(env)"', 4),
    ('"a\\("b\\(env)")"', 9),
    ('"\\({env: env})"', 10),
    ('@base64 "\\($ENV)"', 12),
    ('"\\u(\\(env)"', 7),
    ('"\\\\\\(env)"', 6),
    ("def f: env; f", 8),
    ("def env: 1; env", 5),
    (". as $x | env", 11),
    ("1.env", 3),
    ("...env", 3),
    ("1env", 2),
    ("$__prog_args", 1),
    ("__prog_args", 1),
    ('import "a" as b; .', 1),
    ('import "a" as $b; .', 1),
    ('include "a"; .', 1),
    ("module {}; .", 1),
    ('"a" | modulemeta', 7),
    ("input_filename", 1),
    ("get_search_list", 1),
    ("get_prog_origin", 1),
    ("get_jq_origin", 1),
    ("debug", 1),
    ('debug("x")', 1),
    ("stderr", 1),
    ("halt_error", 1),
    ("halt_error(1)", 1),
    (". # comment", 3),
    ("#", 1),
    ('"a" # "', 5),
    ("'a'", 1),
    ("`a`", 1),
    ("a \\ b", 3),
    (". & .", 3),
    ("!", 1),
    ("~", 1),
    ("$", 1),
    ("$1", 1),
    ("\u00e9", 1),
    (". \x00", 3),
    (". \x0b", 3),
    (". \r", 3),
    ('"abc', 1),
    ('"abc\\', 5),
    ('"a\\(1', 3),
    ('"\\(")', 4),
    ("(1", 1),
    ("[1", 1),
    ("{", 1),
    ("1)", 2),
    ("(1]", 3),
    ('"\\(1]"', 5),
    (".a" + " " * MAX_PROGRAM, 1),
    ('"' + "\u00e9" * (MAX_PROGRAM // 2) + '"', 1),
)


@pytest.mark.parametrize("program", ALLOWED)
def test_allowed(program: str) -> None:
    check_program(program)


@pytest.mark.parametrize(("program", "column"), DENIED)
def test_denied(program: str, column: int) -> None:
    with pytest.raises(ExpressionDenied) as caught:
        check_program(program)
    assert caught.value.column == column
    assert caught.value.reason and caught.value.hint


@pytest.mark.parametrize("word", ["env", "debug", "input_filename", "import"])
def test_a_hint_names_spellings_that_are_allowed(word: str) -> None:
    with pytest.raises(ExpressionDenied) as caught:
        check_program(f"{word} | .")
    assert f'.["{word}"]' in caught.value.hint
    check_program(f'.["{word}"]')
    check_program(f'{{"{word}": 1}}')


def jq_program() -> str | None:
    """The jq that the image's programs were built with, else the one on the PATH (1.6 knows all of these but two)."""
    # jq-HASH is this machine's; jq-arm64-HASH is for an image of another.
    programs = (Path.home() / ".cache" / "obi-mcp" / "programs").glob("jq-*/bin/jq")
    built = sorted(path for path in programs if path.parts[-3].count("-") == 1)
    return str(built[-1]) if built else shutil.which("jq")


@pytest.mark.parametrize("program", ALLOWED)
def test_what_is_allowed_compiles(program: str) -> None:
    jq = jq_program()
    if jq is None:
        pytest.skip("no jq here")
    version = subprocess.run([jq, "--version"], capture_output=True, text=True, check=True).stdout
    if version.startswith("jq-1.6") and ("import:" in program or "__loc__}" in program):
        pytest.skip("jq 1.6 takes no keywords as keys")
    done = subprocess.run(
        [jq, "-n", f"try ({program}) catch ." if "def " not in program else program],
        capture_output=True,
        text=True,
        env={"CANARY": "canary-value"},
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert done.returncode != 3, done.stderr
    assert "canary-value" not in done.stdout + done.stderr
