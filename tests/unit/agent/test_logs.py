"""The agent's log: written within its bound, read from its end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from obi_mcp.agent.log_file import LogFile, log_files
from obi_mcp.agent.logs import Wanted, parse_since, read_log
from obi_mcp.agent.record import LOG
from obi_mcp.errors import InvalidArgument

LINES = [
    'time=2026-11-21T12:00:00.000Z level=INFO msg="first"',
    'time=2026-11-21T12:00:01.000Z level=WARN msg="second" component=agent.Flows',
    "network_flow: src.address=10.0.0.1 dst.port=80",
    '[{"type":"HTTP"}]',
    'time=2026-11-21T12:00:02.000Z level=ERROR msg="third"',
    "panic: something",
    'time=2026-11-21T12:00:03.000Z level=DEBUG msg="fourth"',
]


def test_all_files_together_stay_within_the_bound_and_lines_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / LOG
    log = LogFile(path, 4096)
    for number in range(2000):
        log.write(f"line {number:05d} {'x' * (number % 90)}\n".encode())
    log.close()
    files = [file for file in log_files(path) if file.exists()]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) <= 4096
    kept = "".join(file.read_text() for file in files).splitlines()
    assert all(line.startswith("line ") for line in kept)
    assert [int(line.split()[1]) for line in kept] == list(range(2000 - len(kept), 2000))


def test_lines_that_come_in_pieces_stay_within_the_bound(tmp_path: Path) -> None:
    log = LogFile(tmp_path / LOG, 4096)
    text = b"".join(b"line %05d %s\n" % (number, b"x" * (number % 700)) for number in range(500))
    for at in range(0, len(text), 333):
        log.write(text[at : at + 333])
    log.close()
    files = [file.read_bytes() for file in log_files(tmp_path / LOG) if file.exists()]
    assert all(len(data) <= 1024 and data.endswith(b"\n") for data in files)
    assert text.endswith(b"".join(files))


@pytest.mark.parametrize("size", [1, 900, 1024, 1025, 5000, 100_000])
def test_no_piece_is_too_large(tmp_path: Path, size: int) -> None:
    log = LogFile(tmp_path / LOG, 4096)
    for _ in range(3):
        log.write(b"y" * size)
    log.note("INFO", "after it")
    log.close()
    assert sum(file.stat().st_size for file in log_files(tmp_path / LOG) if file.exists()) <= 4096 + 200
    assert (tmp_path / LOG).read_text().splitlines()[-1].endswith('msg="after it" component=obi-mcp.keeper')


def test_what_a_full_disk_took_is_counted_and_said() -> None:
    log = LogFile(Path("/dev/full"), 1 << 40)
    log.write(b"lost\n")
    log.write(b"lost, too\n")
    assert log.lost_bytes == 15
    log.close()


def test_a_log_is_continued_by_the_next_keeper(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = LogFile(tmp_path / LOG, 4096)
        log.write(text)
        log.close()
    assert (tmp_path / LOG).read_text() == "one\ntwo\n"


WANTED: list[tuple[Wanted, list[str], bool]] = [
    (Wanted(), ["first", "second", "", "", "third", "", "fourth"], False),
    (Wanted(tail=2), ["", "fourth"], True),
    (Wanted(level="WARN"), ["second", "third"], False),
    (Wanted(level="WARN", tail=1), ["third"], True),
    (Wanted(kind="log", text="agent.Flows"), ["second"], False),
    (Wanted(kind="flow"), [""], False),
    (Wanted(kind="other"), [""], False),
    (Wanted(text=".*"), [], False),
    # Flows and spans have no time: those after the last line that is too old are taken.
    (Wanted(since=datetime(2026, 11, 21, 12, 0, 2, tzinfo=UTC)), ["", "", "third", "", "fourth"], False),
    (Wanted(since=datetime(2026, 11, 21, 12, 0, 2, tzinfo=UTC), level="ERROR"), ["third"], False),
]


@pytest.mark.parametrize(("wanted", "messages", "more"), WANTED)
def test_the_last_that_fit_are_found_over_all_files(
    tmp_path: Path, wanted: Wanted, messages: list[str], more: bool
) -> None:
    (tmp_path / f"{LOG}.2").write_text("".join(f"{line}\n" for line in LINES[:3]))
    (tmp_path / f"{LOG}.1").write_text("".join(f"{line}\n" for line in LINES[3:6]))
    (tmp_path / LOG).write_text(f"{LINES[6]}\n")
    found = read_log(tmp_path, wanted)
    assert [record.message for record in found.records] == messages
    assert found.more is more


def test_no_log_gives_no_records(tmp_path: Path) -> None:
    assert read_log(tmp_path, Wanted()).records == ()


def test_a_line_over_two_pieces_is_one_line(tmp_path: Path) -> None:
    lines = [f"{number} " + "z" * 999 for number in range(1000)]
    (tmp_path / LOG).write_text("".join(f"{line}\n" for line in lines))
    found = read_log(tmp_path, Wanted(tail=1000))
    assert [record.text for record in found.records] == lines


def test_moments_are_read_as_people_write_them() -> None:
    now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert parse_since("90s", now) == datetime(2026, 11, 21, 11, 58, 30, tzinfo=UTC)
    assert parse_since("2h", now) == datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
    assert parse_since("2026-11-21T11:00:00Z") == datetime(2026, 11, 21, 11, 0, tzinfo=UTC)
    assert parse_since("2026-11-21T11:00:00") == datetime(2026, 11, 21, 11, 0, tzinfo=UTC)
    for text in ("yesterday", "", "1w", "-5m", "99999999s"):
        with pytest.raises(InvalidArgument, match="since is"):
            parse_since(text)
