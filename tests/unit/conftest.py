"""What holds for all fast tests."""

from __future__ import annotations

from hypothesis import settings


def pytest_configure() -> None:
    """No test asserts a time: on a busy machine an example takes as long as it takes."""
    settings.register_profile("no deadline", deadline=None)
    settings.load_profile("no deadline")
