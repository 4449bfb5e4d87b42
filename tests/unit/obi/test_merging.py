"""Logs of many pods as one."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from obi_mcp.obi.log_lines import LogRecord, parse_line
from obi_mcp.obi.log_merge import MAX_PATTERNS, LastLines, Pattern, Patterns, PodRecord


def records(*lines: str) -> list[LogRecord]:
    return [parse_line(line) for line in lines]


def line(second: int, message: str, level: str = "INFO") -> str:
    return f'time=2026-11-21T12:00:{second:02}.000Z level={level} msg="{message}"'


def merged(logs: list[tuple[str, list[LogRecord]]], limit: int = 1_000) -> list[PodRecord]:
    last = LastLines(limit)
    for pod, own in logs:
        last.add(pod, own)
    return last.lines()


def patterns(logs: list[tuple[str, list[LogRecord]]]) -> list[Pattern]:
    found = Patterns()
    for pod, own in logs:
        found.add(pod, own)
    return found.worst_first()


def test_lines_come_by_time_and_what_has_none_stays_behind_its_line() -> None:
    one = records(line(1, "a"), "network_flow: x=1", line(4, "d"))
    two = records(line(2, "b"), line(3, "c"))
    got = [(entry.pod, entry.record.message or entry.record.text) for entry in merged([("p", one), ("q", two)])]
    assert got == [("p", "a"), ("p", "network_flow: x=1"), ("q", "b"), ("q", "c"), ("p", "d")]


def test_a_clock_that_is_set_back_does_not_break_the_order_of_a_pod() -> None:
    got = merged([("p", records(line(5, "a"), line(1, "b"))), ("q", records(line(3, "c")))])
    assert [entry.record.message for entry in got] == ["c", "a", "b"]


def test_patterns_count_what_differs_only_in_numbers_and_names() -> None:
    lines = [line(n, f"lost {n} spans of /var/run/{n}", "WARN") for n in range(3)]
    found = patterns([("p", records(*lines)), ("q", records(line(1, "ready"), lines[0]))])
    assert [(entry.level, entry.count, entry.pods) for entry in found] == [("WARN", 4, 2), ("INFO", 1, 1)]
    assert found[0].text == "lost … spans of …"


@given(st.lists(st.lists(st.integers(0, 59)), max_size=5))
def test_no_line_is_lost_and_each_pod_keeps_its_order(pods: list[list[int]]) -> None:
    logs = [(f"p{number}", records(*(line(s, f"{s}") for s in seconds))) for number, seconds in enumerate(pods)]
    got = merged(logs)
    for pod, own in logs:
        assert [entry.record for entry in got if entry.pod == pod] == own


def test_patterns_are_bounded_and_none_of_the_lines_is_uncounted() -> None:
    words = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}z" for n in range(MAX_PATTERNS + 30)]
    found = patterns([("p", records(*(line(0, word, "WARN") for word in words)))])
    assert len(found) == MAX_PATTERNS + 1 and sum(entry.count for entry in found) == len(words)
    assert (found[0].text, found[0].count) == ("(other lines)", 30)


@given(st.lists(st.lists(st.integers(0, 59)), max_size=5), st.integers(1, 9), st.randoms())
def test_the_last_lines_are_the_same_in_whatever_order_the_pods_come(
    pods: list[list[int]], limit: int, order: Random
) -> None:
    logs = [(f"p{number}", records(*(line(s, f"{s}") for s in seconds))) for number, seconds in enumerate(pods)]
    whole = merged(logs)
    order.shuffle(logs)
    assert merged(logs, limit) == whole[-limit:]
