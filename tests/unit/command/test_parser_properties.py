"""What holds for every line: it is read or refused with a place, what was read is read the same again, and no spelling
of what is always denied gets past the policy at any level."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz import vocabulary
from tests.fuzz.generator import Generator, Line, Seeds
from tests.fuzz.spelling import plain
from tests.unit.policy.policies import built_in

from obi_mcp.command.grammar import CommandSpec, FlagSpec, Grammars
from obi_mcp.command.lexer import lex
from obi_mcp.command.model import Command, Pipeline
from obi_mcp.command.parser import parse
from obi_mcp.errors import InvalidCommand
from obi_mcp.policy.engine import Policy
from obi_mcp.policy.model import Access

GRAMMARS = Grammars.load(Path(__file__).parents[3] / "policy" / "grammar")
SEEDS = Seeds.load()
LEVELS = tuple(Access)

# --- lines ---

LINES = st.integers(0, 2**32).map(lambda seed: Generator(f"properties/{seed}", GRAMMARS, SEEDS).line())
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text("kubectl gethm -nA='\"\\|pods", max_size=60).map(lambda text: f"kubectl get {text}"),
    st.lists(
        st.sampled_from((*vocabulary.TRAPS, *vocabulary.SHELL, *vocabulary.RAW, *vocabulary.PLAIN)), max_size=6
    ).map(lambda parts: f"kubectl get {' '.join(parts)}"),
    LINES.map(lambda line: line.text),
)


def meaning(command: Command) -> tuple[object, ...]:
    """A command without how it was written."""
    flags = tuple((flag.name, flag.values) for flag in command.flags)
    return command.program, command.path, flags, tuple(operand.text for operand in command.operands)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return built_in()


def read(text: str) -> Pipeline | None:
    """None where the line is refused, which must name a place that exists."""
    try:
        return parse(text, GRAMMARS)
    except InvalidCommand as error:
        refusal = error
    assert refusal.message
    assert refusal.hint
    assert refusal.stage is None or refusal.stage >= 0
    assert refusal.column is None or 1 <= refusal.column <= len(text) + 1, (text, refusal.column)
    return None


@given(TEXTS)
@settings(max_examples=800, deadline=None)
def test_any_text_is_read_or_refused_at_a_place(text: str) -> None:
    pipeline = read(text)
    if pipeline is None:
        return
    for stage, words in zip(pipeline.stages(), lex(text), strict=True):
        assert words[0].text == stage.program
        for word in words:
            assert not any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl"} for character in word.text)


@given(LINES)
@settings(max_examples=600, deadline=None)
def test_what_was_read_is_read_the_same_again(line: Line) -> None:
    pipeline = read(line.text)
    if pipeline is None:
        return
    again = parse(plain(pipeline.argv()), GRAMMARS)
    assert [meaning(command) for command in again.stages()] == [meaning(command) for command in pipeline.stages()]
    assert again.argv() == pipeline.argv()


@given(LINES)
@settings(max_examples=600, deadline=None)
def test_a_rebuilt_vector_holds_nothing_that_could_be_taken_for_something_else(line: Line) -> None:
    pipeline = read(line.text)
    if pipeline is None:
        return
    head = pipeline.head
    words = head.argv()
    start = 1 + len(head.path)
    assert words[:start] == (head.program, *head.path)
    flags, rest = words[start : start + len(head.flags)], words[start + len(head.flags) :]
    # A value is glued to its flag, so that neither kubectl's nor helm's early scans can take it for a flag.
    assert all(word.startswith(f"--{flag.name}=") for word, flag in zip(flags, head.flags, strict=True))
    before_dash = rest[: rest.index("--")] if "--" in rest else rest
    assert all(not word.startswith("-") or word == "-" for word in before_dash)


@given(LINES)
@settings(max_examples=600, deadline=None)
def test_a_lower_level_never_allows_more(policy: Policy, line: Line) -> None:
    text = line.text
    decisions = [policy.decide(text, access=level) for level in LEVELS]
    allowed = [decision.allowed for decision in decisions]
    assert allowed == sorted(allowed), text
    for level, decision in zip(LEVELS, decisions, strict=True):
        if decision.allowed:
            assert decision.access is not None
            assert decision.access <= level


HALF = 32_000
LONG = (
    "kubectl" + " " * 2 * HALF,
    "kubectl get pods" + (" " * 300 + "é") * 200,
    "kubectl get " + "x " * HALF,
    "kubectl get " + "''" * HALF,
    "kubectl get -" + "A" * 2 * HALF,
    "kubectl get --" + "field-" * 10_000,
    "kubectl " + "-nx " * 16_000 + "get",
    "kubectl logs x --since=" + "1" * 2 * HALF + "x",
    "kubectl logs x --since=" + "1h" * (HALF - 20) + "x",
    "kubectl api-versions | grep " + "-ea " * 16_000,
    "kubectl get" + "|x" * (HALF - 10),
)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_a_long_line_is_read_in_time_proportional_to_its_length(text: str) -> None:
    # Nothing is measured: what is quadratic here takes half a minute.
    read(text)


# --- what is always denied, in every spelling ---

DENIED = {
    "kubectl": (
        *("kubeconfig", "server", "token", "user", "cluster", "username", "password", "as", "as-group", "as-uid"),
        *("client-certificate", "client-key", "certificate-authority", "insecure-skip-tls-verify", "tls-server-name"),
        *("cache-dir", "profile", "profile-output", "vmodule", "log-flush-frequency", "kuberc", "as-user-extra"),
        *("kustomize", "patch-file", "from-file", "from-env-file", "output-directory", "force", "prune", "validate"),
        *("field-manager", "subresource", "stdin", "tty", "follow", "watch-only", "help"),
    ),
    "helm": (
        *("kube-apiserver", "kube-as-group", "kube-as-user", "kube-ca-file", "kube-insecure-skip-tls-verify"),
        *("kube-tls-server-name", "kube-token", "kubeconfig", "registry-config", "repository-cache", "debug"),
        *("repository-config", "post-renderer", "post-renderer-args", "set-file", "keyring", "take-ownership", "repo"),
        *("force-replace", "force-conflicts", "dependency-update", "enable-dns", "output-dir", "ca-file", "username"),
        *("plain-http", "pass-credentials", "disable-openapi-validation", "vmodule", "log-dir", "log-file"),
    ),
}


def spelled(flag: FlagSpec, value: str) -> list[list[str]]:
    """Every way to write a flag that its program reads as that flag."""
    ways = [[f"--{flag.name}={value}"], [f"--{flag.name.replace('-', '_')}={value}"]]
    ways.append([f"--{flag.name}"] if flag.optional else [f"--{flag.name}", value])
    if flag.short:
        ways += [
            [f"-{flag.short}={value}"],
            [f"-{flag.short}{value}"],
            [f"-A{flag.short}{value}"],
            [f"-{flag.short}", value],
        ]
    return ways


def spec_of(words: tuple[str, ...]) -> tuple[CommandSpec, int]:
    spec, depth = GRAMMARS.heads[words[0]].root, 1
    while depth < len(words) and (child := spec.child(words[depth])) is not None:
        spec, depth = child, depth + 1
    return spec, depth


ALLOWED_HEADS = [stages[0] for stages in SEEDS.allowed if stages[0][0] in DENIED]


@given(st.sampled_from(ALLOWED_HEADS), st.data())
@settings(max_examples=1200, deadline=None)
def test_no_spelling_of_a_denied_flag_is_allowed(policy: Policy, words: tuple[str, ...], data: st.DataObject) -> None:
    spec, depth = spec_of(words)
    names = [name for name in DENIED[words[0]] if name in spec.flags]
    flag = spec.flags[data.draw(st.sampled_from(sorted(names)))]
    value = data.draw(st.sampled_from(("x", "true", "/etc/passwd", "https://x", "1", "-", "")))
    way = data.draw(st.sampled_from(spelled(flag, value)))
    places = range(1, words.index("--") if "--" in words else len(words) + 1)
    at = data.draw(st.sampled_from([*places]))
    stages = ((*words[:at], *way, *words[at:]),)
    decision = policy.decide(plain(stages), access=Access.FULL)
    if not decision.allowed:
        return
    # Between a flag and its value the spelling is itself a value, and the program is told so.
    assert decision.pipeline is not None
    assert flag.name not in {given.name for given in decision.pipeline.head.flags}, plain(stages)
    assert at > depth
