"""Structured logs: what a line holds, and that a reader who does not read stops nobody."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from obi_mcp.log import MAX_WAITING_LINES, StderrWriter, start_logging, utc_now


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.mark.usefixtures("root_logger")
def test_a_line_is_one_json_object_with_its_facts(pipe: tuple[int, int]) -> None:
    reader, fd = pipe
    writer = StderrWriter(fd)
    start_logging("info", writer)
    logger = logging.getLogger("obi_mcp.test")
    logger.debug("too quiet")
    logger.info("serving\nnow", extra={"access": "full"})
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("mcp.server").info("narrated")
    assert writer.flush(10)
    first, second = [json.loads(line) for line in os.read(reader, 65536).splitlines()]
    assert datetime.fromisoformat(first.pop("time").replace("Z", "+00:00")).tzinfo is not None
    assert first == {"level": "info", "logger": "obi_mcp.test", "message": "serving\nnow", "access": "full"}
    assert second["exception"].endswith("ValueError: no")


def test_a_reader_who_does_not_read_stops_nobody_and_hears_what_was_lost() -> None:
    reader, fd = os.pipe()
    writer = StderrWriter(fd)
    offered = MAX_WAITING_LINES + 1000
    lost = [writer.write(b"x" * 1000) for _ in range(offered)].count(False)
    assert lost >= 1000 - 70  # what the pipe itself holds, and the line in hand, got through
    assert not writer.flush(0)
    with ThreadPoolExecutor(1) as pool, open(reader, "rb") as stream:
        read = pool.submit(stream.readlines)
        assert writer.flush(30)
        assert writer.write(b"last")
        assert writer.flush(30)
        os.close(fd)
        lines = read.result(30)
    assert lines.count(b"x" * 1000 + b"\n") == offered - lost
    assert b"last\n" in lines[-2:]
    assert sum(json.loads(line)["lines"] for line in lines if line.startswith(b"{")) == lost


def test_a_closed_standard_error_stops_nobody() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = StderrWriter(fd)
    assert writer.write(b"x")
    assert writer.flush(10)
    os.close(fd)


def test_times_are_utc_with_milliseconds() -> None:
    assert len(utc_now()) == len("2026-01-31T12:00:00.123Z")
    assert utc_now().endswith("Z")
