"""What is told of a server-side dry run that was refused."""

from __future__ import annotations

import pytest

from obi_mcp.enforcer.written import said

WARNING = "Warning: resource clusterroles/obi is missing the annotation which is required by kubectl apply."
REASON = 'The DaemonSet "obi" is invalid: spec.selector: Invalid value: field is immutable'


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (f"{WARNING}\n{WARNING}\n{REASON}\n", REASON),
        (f"{REASON}\n{WARNING}\n", REASON),
        (f"{WARNING}\n", WARNING),
        ("x" * 700, "x" * 600),
    ],
    ids=["warnings first", "warnings last", "nothing but a warning", "long"],
)
def test_the_reason_is_told_and_not_the_warnings_before_it(stderr: str, told: str) -> None:
    assert said(stderr.encode()) == told
