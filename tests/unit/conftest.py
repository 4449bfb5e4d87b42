"""What holds for all fast tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings


def pytest_configure() -> None:
    """No test asserts a time: on a busy machine an example takes as long as it takes.

    Examples are the same in every run, so that a run fails for what was changed; ``HYPOTHESIS_RANDOM=1`` looks further.
    """
    derandomize = not os.environ.get("HYPOTHESIS_RANDOM")
    settings.register_profile(
        "obi-mcp", deadline=None, derandomize=derandomize, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("obi-mcp")


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Puts the root logger's handlers and level back, which ``start_logging`` takes for itself."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
