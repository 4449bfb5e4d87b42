"""What kubectl prints of an object when an expression fails is cut, however its output comes in pieces."""

from __future__ import annotations

import pytest

from obi_mcp.policy.expressions.dump import CUT_NOTE, DumpCut, cut_dump, may_dump, without_dump

TEMPLATE = b"Printing more information for debugging the template:"

OUTPUTS = [
    (b"", b""),
    (b"obi-1 Running\n", b"obi-1 Running\n"),
    (TEMPLATE + b"\n\tobject was:\n\tmap[password:x]\n", CUT_NOTE),
    (b"error executing template: x\n" + TEMPLATE + b" y", b"error executing template: x\n" + CUT_NOTE),
    (b"a\nFailed to get i values for {map[password:x]} using {}", b"a\n" + CUT_NOTE),
    (b"a\nFailed to get j values for {map[password:x]} Failed to get i values for", b"a\n" + CUT_NOTE),
    (b"Printing more information for debugging", b"Printing more information for debugging"),
]


@pytest.mark.parametrize(("output", "kept"), OUTPUTS)
def test_what_follows_a_failed_expression_is_left_out(output: bytes, kept: bytes) -> None:
    assert without_dump(output) == kept
    assert cut_dump(output) == (kept, kept.endswith(CUT_NOTE))


@pytest.mark.parametrize(("output", "kept"), OUTPUTS)
@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_pieces_make_no_difference(output: bytes, kept: bytes, size: int) -> None:
    cut = DumpCut()
    pieces = [cut.feed(output[at : at + size]) for at in range(0, len(output), size)]
    assert b"".join([*pieces, cut.finish()]) == kept
    assert cut.finish() == b""


def test_nothing_comes_after_a_dump() -> None:
    cut = DumpCut()
    assert cut.feed(b"x " + TEMPLATE) == b"x " + CUT_NOTE
    assert (cut.feed(b"password: x\n"), cut.finish()) == (b"", b"")


@pytest.mark.parametrize(
    ("argv", "may"),
    [
        (("kubectl", "get", "--output=jsonpath={.status}"), True),
        (("kubectl", "get", "--output=go-template={{.status}}"), True),
        (("kubectl", "get", "--output=custom-columns=A:.status"), True),
        (("kubectl", "get", "--sort-by=.metadata.name"), True),
        (("kubectl", "wait", "--for=jsonpath={.status.phase}=Running"), True),
        (("kubectl", "get", "--output=json"), False),
        (("kubectl", "wait", "--for=delete"), False),
        (("kubectl", "get", "--", "--sort-by"), False),
    ],
)
def test_which_commands_may_print_one(argv: tuple[str, ...], may: bool) -> None:
    assert may_dump(argv) is may
