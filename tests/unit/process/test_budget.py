"""What a caller gets of an output that is too long, and what is said of the rest."""

from __future__ import annotations

import pytest

from obi_mcp.process.budget import Budget, Tail
from obi_mcp.process.children import Ended
from obi_mcp.process.completed import StageEnd, exit_of, remarks

CUTS = [
    ("fits", 10, [b"12345", b"67890"], b"1234567890", False),
    ("cut at the end of a line", 10, [b"1234\n", b"567\n89\n"], b"1234\n567\n", True),
    ("a long line is cut where it has to be", 4, [b"123456"], b"1234", True),
    ("never within a character", 4, ["aé✓".encode()], "aé".encode(), True),
    ("nothing", 0, [b"1"], b"", True),
]


@pytest.mark.parametrize(("most", "pieces", "kept", "spent"), [row[1:] for row in CUTS], ids=[row[0] for row in CUTS])
def test_text_is_cut_where_a_reader_would_cut_it(most: int, pieces: list[bytes], kept: bytes, spent: bool) -> None:
    budget = Budget(most)
    for piece in pieces:
        budget.add(piece)
    assert (budget.close(b"]"), budget.spent, budget.seen) == (kept, spent, sum(map(len, pieces)))


def test_items_are_kept_whole() -> None:
    budget = Budget(1000, whole=True)
    for piece in (b"[", b"x" * 300, b"y" * 300, b"z" * 300):
        budget.add(piece)
    assert budget.close(b"]") == b"[" + b"x" * 300 + b"y" * 300 + b"]"
    assert "between two items after 602 bytes; at least 299 bytes" in budget.describe_cut(
        602, complete=False, most=5000
    )


def test_of_a_first_item_that_does_not_fit_its_beginning_is_kept() -> None:
    budget = Budget(1000, whole=True)
    budget.add(b"[")
    budget.add(b"x" * 5000)
    assert budget.close(b"]") == b"[" + b"x" * 999


def test_of_what_programs_say_whole_lines_of_the_beginning_and_the_end_are_kept() -> None:
    tail = Tail(10)
    for piece in (b"12\n", b"345678", b"90abcd\nef"):
        tail.add(piece)
    assert tail.text() == "12\n… 13 bytes left out …\nef".encode()
    cut = Tail(10)
    cut.add(b"--token=12345678")
    assert cut.text() == "… 16 bytes left out …\n".encode()
    short = Tail(10)
    short.add(b"1234567890")
    assert short.text() == b"1234567890"


def stage(name: str, code: int = 0, signal: int = 0, *, spared: bool = False) -> StageEnd:
    return StageEnd(
        (name, "diff") if name == "kubectl" else (name,),
        Ended(code or 128 + signal if signal else code, signal),
        spared,
    )


EXITS = [
    ("all good", [stage("kubectl")], [stage("jq")], (0, False)),
    ("the head's failure wins", [stage("kubectl", 2)], [stage("jq", 5)], (2, False)),
    ("a difference is an answer", [stage("kubectl", 1)], [], (1, True)),
    ("one of several heads", [stage("kubectl"), stage("kubectl", 3)], [], (3, False)),
    ("no match is an answer", [stage("kubectl")], [stage("grep", 1)], (1, True)),
    ("a bad pattern is none", [stage("kubectl")], [stage("grep", 2)], (2, False)),
    ("the last filter that failed", [stage("kubectl")], [stage("grep", 1), stage("jq", 5), stage("wc")], (5, False)),
    ("closed by the next", [stage("kubectl", 0, 13)], [stage("sort", 0, 13), stage("head")], (0, False)),
    ("ended by us", [stage("kubectl", 0, 15, spared=True)], [stage("head")], (0, False)),
    ("killed by a limit", [stage("kubectl")], [stage("jq", 0, 9)], (137, False)),
]


@pytest.mark.parametrize(("heads", "filters", "expected"), [row[1:] for row in EXITS], ids=[row[0] for row in EXITS])
def test_the_exit_code_is_that_of_the_stage_to_blame(
    heads: list[StageEnd], filters: list[StageEnd], expected: tuple[int, bool]
) -> None:
    assert exit_of(heads, filters) == expected


def test_a_filter_that_its_limits_ended_is_named() -> None:
    said = remarks([stage("jq", 0, 24), stage("head")], memory_bytes=512 << 20, cpu_s=10)
    assert (
        said
        == b"obi-mcp: jq was ended by SIGXCPU; a filter may use 512 MiB of memory and 10 seconds of processor time\n"
    )
