"""One line to words: what a shell would act on is refused at its column, everything else is plain text."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obi_mcp.command.lexer import lex
from obi_mcp.errors import InvalidCommand

WORDS = [
    ("kubectl get pods", [["kubectl", "get", "pods"]]),
    ("  kubectl\t get   pods ", [["kubectl", "get", "pods"]]),
    ("a|b", [["a"], ["b"]]),
    ("a 'b c' \"d e\" f\\ g", [["a", "b c", "d e", "f g"]]),
    ("a '' \"\"", [["a", "", ""]]),
    ("a b'c'\"d\"\\e", [["a", "bcde"]]),
    ("a '$x `id` ; & > < * ? [ ] { } ( ) ~ # !'", [["a", "$x `id` ; & > < * ? [ ] { } ( ) ~ # !"]]),
    ('a "\\$x \\\\ \\" \\n"', [["a", '$x \\ " \\n']]),
    ("a x~y x#y x!y", [["a", "x~y", "x#y", "x!y"]]),
    ("a \\~x \\#x", [["a", "~x", "#x"]]),
    ("a FOO=1", [["a", "FOO=1"]]),
    ("a --x=1,2:3/4@5%6^7+8", [["a", "--x=1,2:3/4@5%6^7+8"]]),
    ("jq 'ä→ü'", [["jq", "ä→ü"]]),
    ("grep ünïcödé", [["grep", "ünïcödé"]]),
    ("a 'b|c' | d", [["a", "b|c"], ["d"]]),
]

REFUSED = [  # line, stage, word, column
    ("", 0, 0, 1),
    ("   ", 0, 0, 1),
    ("| a", 0, 0, 1),
    ("a |", 1, 0, 4),
    ("a || b", 1, 0, 4),
    ("a; b", 0, 0, 2),
    ("a & b", 0, 1, 3),
    ("a |& b", 1, 0, 4),
    ("a > /tmp/x", 0, 1, 3),
    ("a 2>/dev/null", 0, 1, 4),
    ("a < x", 0, 1, 3),
    ("a `id`", 0, 1, 3),
    ("a $(id)", 0, 1, 3),
    ("a $HOME", 0, 1, 3),
    ("a x*", 0, 1, 4),
    ("a x?", 0, 1, 4),
    ("a [x]", 0, 1, 3),
    ("a {x,y}", 0, 1, 3),
    ("(a)", 0, 0, 1),
    ("a ~/x", 0, 1, 3),
    ("a #x", 0, 1, 3),
    ("a !x", 0, 1, 3),
    ("a\nb", 0, 0, 2),
    ("a\rb", 0, 0, 2),
    ("a 'x\ny'", 0, 1, 5),
    ('a "x\ty"', 0, 1, 5),
    ("a\x00b", 0, 0, 2),
    ("a\x1b[31m", 0, 0, 2),
    ("a\u00a0b", 0, 0, 2),
    ("a\u3000b", 0, 0, 2),
    ("a\u2028b", 0, 0, 2),
    ("a '\u200b'", 0, 1, 4),
    ("a '\u202e'", 0, 1, 4),
    ("a\ufeff", 0, 0, 2),
    ("a\\\nb", 0, 0, 3),
    ("a 'x", 0, 1, 3),
    ('a "x', 0, 1, 3),
    ("a x\\", 0, 1, 4),
    ("FOO=1 a", 0, 0, 1),
    ("a | FOO=1 b", 1, 0, 5),
    ("a '\ud800'", 0, 1, 4),
]


@pytest.mark.parametrize(("line", "expected"), WORDS)
def test_words_are_read_as_posix_quoting_says(line: str, expected: list[list[str]]) -> None:
    assert [[token.text for token in stage] for stage in lex(line)] == expected


@pytest.mark.parametrize(("line", "stage", "word", "column"), REFUSED)
def test_what_a_shell_would_act_on_is_refused_at_its_place(line: str, stage: int, word: int, column: int) -> None:
    with pytest.raises(InvalidCommand) as caught:
        lex(line)
    error = caught.value
    assert (error.stage, error.word, error.column) == (stage, word, column)
    assert error.hint


def test_columns_point_at_the_start_of_each_word() -> None:
    assert [token.column for token in lex("ab  'c d'\te")[0]] == [1, 5, 11]


def test_a_line_longer_than_the_cap_is_refused_before_it_is_read() -> None:
    assert lex("a " + "b" * 65_534)
    with pytest.raises(InvalidCommand, match="65537 bytes"):
        lex("a " + "b" * 65_535)
    with pytest.raises(InvalidCommand, match="are the most"):
        lex("ä" * 40_000)


INSTEAD = [
    ("a b 2>&1", "leave it out: messages come as stderr"),
    ("a b 2>/dev/null", "leave it out: messages come as stderr"),
    ("a b &>x", "leave it out: messages come as stderr"),
    ("a b > x", "leave it out: the output is the answer; nothing is written to a file"),
    ("a -f - <<EOF", "put the document into the stdin argument, and use -f -"),
    ("a b && c", "one call for each command"),
    ("a b; c", "one call for each command"),
    ("a b || c", "one call for each command"),
    ("a b | | c", "write a command on both sides of |"),
    ("a -o custom-columns=I:.spec.c[0].image -A", "quote the whole word: 'custom-columns=I:.spec.c[0].image'"),
    ("a | jq .items[]|head", "quote the whole word: '.items[]'"),
    ("a o*", "quote the whole word: 'o*'"),
    ("a 'x y'=?", "quote the whole word: 'x y=?'"),
    ("a -o={.a}", "quote the whole word: '-o={.a}'"),
    ('a [x"y"]', "quote it if you mean the character itself: '['; join commands with | only"),
    (f"a {'x' * 300}*", "quote it if you mean the character itself: '*'; join commands with | only"),
    ("a $HOME", "quote it if you mean the character itself: '$'; join commands with | only"),
]


@pytest.mark.parametrize(("line", "hint"), INSTEAD, ids=[line[:20] for line, _ in INSTEAD])
def test_what_to_write_instead_is_said(line: str, hint: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        lex(line)
    assert caught.value.hint == hint
    shown = hint.partition("the whole word: ")[2]
    if shown:
        assert lex(f"a {shown}")[0][1].text == shown[1:-1]


VISIBLE = st.text(
    st.one_of(
        st.sampled_from(string.printable[:95]),
        st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")),
    ),
    max_size=12,
)


def single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def double(text: str) -> str:
    for character in '\\"$`':
        text = text.replace(character, "\\" + character)
    return f'"{text}"'


@given(st.lists(st.lists(st.tuples(VISIBLE, st.sampled_from([single, double])), min_size=1, max_size=4), min_size=1))
def test_quoting_words_and_reading_them_again_gives_the_words(stages: list[list[tuple[str, object]]]) -> None:
    line = " | ".join(" ".join(quote(text) for text, quote in stage) for stage in stages)  # type: ignore[operator]
    assert [[token.text for token in stage] for stage in lex(line)] == [[text for text, _ in stage] for stage in stages]
