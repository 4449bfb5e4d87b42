"""Copies of a process that answer pieces of work: all of them, in order, whatever becomes of a copy."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from obi_mcp.cli.copies import Copies

BIG = b"x" * 1_000_000
"""More than fits into a pipe."""


def work(number: int, piece: bytes) -> bytes:
    """Says who did what."""
    return b"%d %d %d " % (os.getpid(), number, len(piece)) + piece


@pytest.mark.parametrize(("most", "processes"), [(1, 1), (2, 2), (3, 3), (20, 8)])
def test_every_piece_is_answered_in_order(most: int, processes: int) -> None:
    copies = Copies(work, most)
    try:
        answers = [answer for number in range(8) for answer in copies.put(number, BIG)]
        answers += copies.settle()
        assert copies.idle
    finally:
        copies.close()
    words = [answer.split(b" ") for answer in answers]
    assert [(int(number), int(size), piece) for _, number, size, piece in words] == [
        (number, len(BIG), BIG) for number in range(8)
    ]
    assert len({pid for pid, *_ in words}) == processes
    assert (int(words[0][0]) == os.getpid()) == (most == 1)


def test_what_a_copy_leaves_unanswered_is_done_here() -> None:
    def failing(number: int, piece: bytes) -> bytes:
        if os.getpid() != here and number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(number, piece)

    here = os.getpid()
    copies = Copies(failing, 2)
    try:
        answers = [answer for number in range(7) for answer in copies.put(number, b"")]
        answers += copies.settle()
    finally:
        copies.close()
    assert [int(answer.split()[1]) for answer in answers] == list(range(7))
    # The copy that was ended would have had every other piece.
    assert [int(answer.split()[0]) == here for answer in answers] == [number in {2, 4, 6} for number in range(7)]


@pytest.mark.parametrize("some", [0, 1, 2])
def test_where_no_more_processes_are_to_be_had_fewer_do_it(some: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, made = os.fork, list[int]()

    def fork_some() -> int:
        if len(made) == some:
            raise OSError(errno.EAGAIN, "no more")
        made.append(some)
        return fork()

    monkeypatch.setattr(os, "fork", fork_some)
    before = len(os.listdir("/proc/self/fd"))
    copies = Copies(work, 4)
    try:
        answers = [answer for number in range(9) for answer in copies.put(number, BIG)]
        answers += copies.settle()
    finally:
        copies.close()
    assert [int(answer.split(b" ", 2)[1]) for answer in answers] == list(range(9))
    assert len({answer.split(b" ", 1)[0] for answer in answers}) == max(some, 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_of_them() -> None:
    copies = Copies(work, 3)
    for number in range(3):
        assert list(copies.put(number, BIG)) == []
    pids = [copy.pid for copy in copies._copies]
    copies.close()
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
