"""What holds for all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

SERVER_ENDS_WITHIN_S = 120.0


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """The official client kills a server that has not ended two seconds after it was left: too soon for a machine that
    is busy, and for what is looked at afterwards."""
    stdio = sys.modules.get("mcp.client.stdio")  # whatever needs it has been imported with the tests
    with pytest.MonkeyPatch.context() as patch:
        if stdio is not None:
            patch.setattr(stdio, "PROCESS_TERMINATION_TIMEOUT", SERVER_ENDS_WITHIN_S)
            patch.setattr(stdio, "FORCE_KILL_TIMEOUT", SERVER_ENDS_WITHIN_S)
        yield
