"""A refusal of a tool says what to do with the tool."""

from __future__ import annotations

from typing import Any

import pytest

from obi_mcp.config import Settings
from obi_mcp.errors import Denied, NotFound
from obi_mcp.policy.model import Access, Decision
from obi_mcp.policy.scope import Scope
from obi_mcp.toolsets.base import ToolCall
from obi_mcp.toolsets.way_out import in_terms_of

LINE = "kubectl get --namespace=observability pods"
PATCH = f"kubectl patch --dry-run=server --patch={'x' * 500} configmap obi"
LEVEL = "whoever starts the server decides: --access non-destructive, or the same in the configuration"


@pytest.mark.parametrize(
    ("arguments", "contexts", "needed", "hint", "told"),
    [
        ({"context": "nope"}, (), Access.READ_ONLY, LINE, "call it without context"),
        ({"context": "nope"}, ("a", "b"), Access.READ_ONLY, LINE, "context: one of a, b, or none for the current one"),
        ({"context": "nope", "command": "kubectl get pods"}, (), Access.READ_ONLY, LINE, "call it without context"),
        ({"context": "a"}, ("a",), Access.READ_ONLY, LINE, LINE),
        ({"command": "kubectl patch"}, (), Access.NON_DESTRUCTIVE, PATCH, PATCH),
        ({"patch": {}}, (), Access.NON_DESTRUCTIVE, PATCH, LEVEL),
        ({"patch": {}}, (), Access.READ_ONLY, PATCH, None),
        ({"name": "x"}, (), Access.READ_ONLY, LINE, LINE),
        ({"context": "nope"}, (), Access.READ_ONLY, "leave the flag out", "leave the flag out"),
        ({"context": "nope"}, (), Access.READ_ONLY, None, None),
    ],
)
def test_the_hint_of_a_refusal_is_about_the_arguments(
    arguments: dict[str, Any], contexts: tuple[str, ...], needed: Access, hint: str | None, told: str | None
) -> None:
    settings = Settings(scope=Scope(contexts=contexts))
    refused = Denied(Decision("deny", "kubectl.get", "because", access=needed, hint=hint))
    error = in_terms_of(refused, ToolCall(arguments, "test"), settings)
    assert isinstance(error, Denied)
    assert (error.hint, error.decision.hint, error.message) == (told, told, "because")


def test_another_error_stays_as_it_is() -> None:
    error = NotFound("nothing", "look elsewhere")
    assert in_terms_of(error, ToolCall({"context": "nope"}, "test"), Settings()) is error
