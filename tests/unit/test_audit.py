"""The audit log: what stands in a line, and that a changed, missing, moved or cut line shows."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from obi_mcp.audit import AuditEntry, AuditLog
from obi_mcp.audit_chain import GENESIS, Head, head_path, line_hash, verify
from obi_mcp.config import Audit, Settings
from obi_mcp.errors import AuditError
from obi_mcp.log import StderrWriter
from obi_mcp.policy.model import Access, Check, CheckResult, Decision, MembersSpec, Resource

PODS = Resource("pods", "Pod", "", "v1", True)
MEMBERSHIP = Check(
    "membership", "pod/obi-1", "obi", "a name proves nothing", MembersSpec("named", PODS, "obi", ("obi-1",))
)
ALLOWED = Decision("allow", "kubectl.logs", "fine", Access.READ_ONLY, checks=(MEMBERSHIP,))


def settings(file: Path | None) -> Settings:
    return Settings(audit=Audit(file=str(file) if file else None))


def entry(number: int = 1, **facts: Any) -> AuditEntry:
    return AuditEntry("obi_kubectl", f"kubectl get pods #{number}", "test/1", **facts)


def write(file: Path, count: int, first: int = 1) -> str:
    log = AuditLog(settings(file))
    for number in range(first, first + count):
        log.record(entry(number))
    return log.close()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_says_who_did_what_and_how_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log = AuditLog(settings(file), redact=lambda text: text.replace("hunter2", "[redacted]"))
    result = CheckResult(MEMBERSHIP, passed=True)
    log.record(
        AuditEntry(
            "obi_kubectl",
            "kubectl logs obi-1 --token=hunter2",
            "claude-code/1.2",
            ALLOWED,
            (result,),
            exit_code=0,
            duration_ms=82,
            bytes=1234,
            stdin="{}",
        )
    )
    log.close()
    (line,) = lines(file)
    assert line.pop("time").endswith("Z")
    assert line == {
        "seq": 1,
        "tool": "obi_kubectl",
        "caller": "claude-code/1.2",
        "command": "kubectl logs obi-1 --token=[redacted]",
        "effect": "allow",
        "access": "read-only",
        "rule": "kubectl.logs",
        "checks": [{"kind": "membership", "target": "pod/obi-1", "namespace": "obi", "passed": True}],
        "exit_code": 0,
        "error": None,
        "duration_ms": 82,
        "bytes": 1234,
        "stdin_bytes": 2,
        "stdin_sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "prev": GENESIS,
    }


def test_a_call_refused_before_its_checks_lists_them_as_not_made(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log = AuditLog(settings(file))
    log.record(entry(decision=ALLOWED, error="cluster_unreachable"))
    log.close()
    assert [check["passed"] for check in lines(file)[0]["checks"]] == [None]


def test_each_line_carries_the_hash_of_the_one_before_across_restarts(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 2)
    head = write(file, 2, first=3)
    raw = file.read_bytes().splitlines()
    assert [line["seq"] for line in lines(file)] == [1, 2, 3, 4]
    assert [line["prev"] for line in lines(file)] == [GENESIS, *(line_hash(line) for line in raw[:3])]
    assert head == line_hash(raw[-1])
    found = verify(file, head)
    assert (found.good, found.lines, found.notices) == (True, 4, ())
    assert verify(file) == found
    assert oct(file.stat().st_mode & 0o777) == oct(head_path(file).stat().st_mode & 0o777) == "0o600"


def replace_in(number: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    return lambda text: [line.replace(old, new) if at == number - 1 else line for at, line in enumerate(text)]


TAMPERED: list[tuple[str, Callable[[list[str]], list[str]], int, str]] = [
    ("a changed line", replace_in(2, "#2", "#9"), 2, "was changed"),
    ("a changed first line", replace_in(1, "#1", "#9"), 1, "was changed"),
    ("a changed last line", replace_in(4, "#4", "#9"), 4, "tail was cut off, or this line was changed"),
    ("a missing line", lambda text: text[:1] + text[2:], 2, "1 before it missing or moved"),
    ("a missing first line", lambda text: text[1:], 1, "1 before it missing or moved"),
    ("two lines swapped", lambda text: [text[0], text[2], text[1], text[3]], 2, "missing or moved"),
    ("a repeated line", lambda text: [*text[:2], text[1], *text[2:]], 3, "repeated or out of order"),
    ("a cut tail", lambda text: text[:2], 2, "tail was cut off"),
    ("a line that is no JSON", lambda text: [*text[:1], "x", *text[1:]], 2, "is not a line of the audit log"),
    ("a line that is no object", lambda text: [*text[:1], "[]", *text[1:]], 2, "is not a line of the audit log"),
    ("a line without a number", replace_in(2, '"seq":2', '"seq":true'), 2, "has no sequence number"),
    ("a first line of another chain", replace_in(1, GENESIS, "1" * 64), 1, "does not begin the chain"),
    ("everything gone", lambda text: [], 0, "tail was cut off"),
]


@pytest.mark.parametrize(("what", "tamper", "line", "problem"), TAMPERED, ids=[row[0] for row in TAMPERED])
def test_verify_names_the_first_bad_line(
    what: str, tamper: Callable[[list[str]], list[str]], line: int, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    head = write(file, 4)
    file.write_text("".join(f"{text}\n" for text in tamper(file.read_text().splitlines())))
    for found in (verify(file, head), verify(file)):
        assert not found.good
        assert (found.line or 0) == line
        assert problem in str(found.problem)


def test_a_half_line_at_the_end_is_named(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    head = write(file, 3)
    os.truncate(file, file.stat().st_size - 10)
    found = verify(file, head)
    assert (found.good, found.line) == (False, 3)


def test_a_cut_tail_without_any_head_is_said_not_to_show(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 3)
    head_path(file).unlink()
    found = verify(file)
    assert found.good
    assert "would not show" in found.notices[0]


def test_lines_after_a_given_head_are_found(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    head = write(file, 2)
    write(file, 1, first=3)
    found = verify(file, head)
    assert (found.good, found.line) == (False, 3)
    assert "came after the head that was given" in str(found.problem)


@pytest.mark.parametrize("head", ["", "xyz", GENESIS + "0", "G" * 64])
def test_a_head_that_is_none_is_refused(head: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 1)
    with pytest.raises(AuditError, match="is no head"):
        verify(file, head)


def test_a_second_writer_is_refused_and_a_later_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    first = AuditLog(settings(file))
    with pytest.raises(AuditError, match="held by another server") as refused:
        AuditLog(settings(file))
    assert "--audit-file" in str(refused.value.hint)
    first.close()
    AuditLog(settings(file)).close()


def tear(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b'{"time":"2026-01-01T00:00:00.000Z","seq":3,"tool":"obi_ku')


def test_a_line_torn_by_a_crash_is_kept_and_the_next_one_says_so(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 2)
    tear(file)
    assert not verify(file).good
    head = write(file, 1, first=3)
    found = verify(file, head)
    assert found.good
    assert found.notices == ("line 3 was torn by a crash, as line 4 says",)
    raw = file.read_text().splitlines()
    assert json.loads(raw[3])["event"] == "recovered"
    assert json.loads(raw[3])["torn_bytes"] == len(raw[2])


def test_a_second_crash_before_the_first_was_written_down_is_recovered_too(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 2)
    tear(file)
    with file.open("ab") as stream:
        stream.write(b"\n")
    head = write(file, 1, first=3)
    assert verify(file, head).good


def test_a_line_written_just_before_a_crash_without_its_head_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    write(file, 2)
    before = head_path(file).read_bytes()
    write(file, 1, first=3)
    head_path(file).write_bytes(before)
    assert "or a crash" in verify(file).notices[0]
    head = write(file, 1, first=4)
    assert verify(file, head).good
    assert [line["seq"] for line in lines(file)] == [1, 2, 3, 4]


STARTS_REFUSED: list[tuple[str, Callable[[Path], int | Path | None], str]] = [
    ("a cut tail", lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:1])), "it was cut"),
    ("an emptied log", lambda file: file.write_text(""), "it was cut"),
    ("a half last line", lambda file: os.truncate(file, file.stat().st_size - 9), "it was cut"),
    ("a changed last line", lambda file: file.write_text(file.read_text().replace("#3", "#9")), "it was cut"),
    ("a lost head", lambda file: head_path(file).unlink(), "it was cut"),
    ("a head that is none", lambda file: head_path(file).write_text("hello"), "is not the head"),
    ("a link", lambda file: os.symlink(file.rename(f"{file}.1"), file), "cannot be opened"),
    ("a forged line", lambda file: file.write_text(file.read_text() + '{"seq": 9}\n'), "does not follow"),
]


@pytest.mark.parametrize(("what", "tamper", "problem"), STARTS_REFUSED, ids=[row[0] for row in STARTS_REFUSED])
def test_the_server_does_not_go_on_with_a_log_that_is_not_as_it_was_left(
    what: str, tamper: Callable[[Path], int | Path | None], problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    write(file, 3)
    tamper(file)
    with pytest.raises(AuditError, match=problem):
        AuditLog(settings(file))


@pytest.mark.parametrize("path", ["missing/audit.log", "."])
def test_a_place_that_cannot_hold_the_log_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be opened"):
        AuditLog(settings(tmp_path / path))


def test_nothing_is_recorded_after_a_write_that_failed_and_the_half_line_is_recovered(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log = AuditLog(settings(file))
    log.record(entry(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, hard))  # the disk is full
    try:
        with pytest.raises(AuditError, match="cannot be written"):
            log.record(entry(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(AuditError, match="cannot be written"):
        log.ensure_writable()
    log.close()
    assert verify(file, write(file, 1, first=2)).good


@pytest.fixture
def pipe() -> Iterator[tuple[int, StderrWriter]]:
    reader, writer = os.pipe()
    yield reader, StderrWriter(writer)
    os.close(reader)
    os.close(writer)


def test_without_a_file_lines_go_to_standard_error(pipe: tuple[int, StderrWriter]) -> None:
    reader, stderr = pipe
    log = AuditLog(settings(None), stderr=stderr)
    log.record(entry(1))
    log.record(entry(2))
    head = log.close()
    first, second = os.read(reader, 65536).splitlines()
    assert json.loads(second)["prev"] == line_hash(first)
    assert head == line_hash(second)


def test_a_head_is_of_one_length() -> None:
    assert len(Head().as_bytes()) == len(Head("f" * 64, 999_999_999).as_bytes()) == 78


CHANGES = Decision("allow", "kubectl.delete", "fine", Access.FULL)


def test_a_write_has_a_line_before_it_is_made(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    log = AuditLog(settings(file))
    call = log.begin(entry(1, decision=CHANGES))
    assert verify(file).notices[0].startswith("line 1 began a write that has no end here"), "it runs now"
    other = log.begin(entry(2, decision=CHANGES))
    log.record(entry(1, decision=CHANGES, call=call, exit_code=0))
    log.close()
    assert [(line["call"], line.get("outcome")) for line in lines(file)] == [
        (call, "began"),
        (other, "began"),
        (call, None),
    ]
    found = verify(file)
    assert found.good and found.notices == (
        "line 2 began a write that has no end here (the server was killed in it, or it runs now): kubectl get pods #2",
    )


def test_of_many_writes_without_an_end_the_first_are_named(tmp_path: Path) -> None:
    log = AuditLog(settings(tmp_path / "audit.log"))
    for number in range(25):
        log.begin(entry(number, decision=CHANGES))
    log.close()
    notices = verify(tmp_path / "audit.log").notices
    assert len(notices) == 21 and notices[-1] == "and 5 more writes without an end"


def test_nothing_begins_when_its_line_cannot_be_written(tmp_path: Path) -> None:
    log = AuditLog(settings(tmp_path / "audit.log"))
    log.close()
    with pytest.raises(AuditError):
        log.begin(entry(decision=CHANGES))
