"""What holds for all fast tests."""

from __future__ import annotations

import os

from hypothesis import settings


def pytest_configure() -> None:
    """No test asserts a time: on a busy machine an example takes as long as it takes.

    Examples are the same in every run, so that a run fails for what was changed; ``HYPOTHESIS_RANDOM=1`` looks further.
    """
    derandomize = not os.environ.get("HYPOTHESIS_RANDOM")
    settings.register_profile("obi-mcp", deadline=None, derandomize=derandomize)
    settings.load_profile("obi-mcp")
