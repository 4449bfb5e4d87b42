"""How the words after a command are read: the ``operands`` of a rule, each with its function."""

from __future__ import annotations

from collections.abc import Callable

from obi_mcp.policy.changes import about_changes, judge_changes
from obi_mcp.policy.documents_form import judge_documents
from obi_mcp.policy.draft import Draft
from obi_mcp.policy.events import judge_events_for
from obi_mcp.policy.helm import judge_chart, judge_install, judge_release, judge_releases, judge_revision
from obi_mcp.policy.kubectl import (
    about_resources,
    judge_contexts,
    judge_names,
    judge_none,
    judge_resources,
    judge_words,
)
from obi_mcp.policy.log import judge_log
from obi_mcp.policy.obi_program import judge_config
from obi_mcp.policy.raw import judge_raw

FORMS: dict[str, Callable[[Draft], None]] = {
    "none": judge_none,
    "words": judge_words,
    "contexts": judge_contexts,
    "raw": judge_raw,
    "resources": judge_resources,
    "events": judge_events_for,
    "log": judge_log,
    "names": judge_names,
    "changes": judge_changes,
    "documents": judge_documents,
    "releases": judge_releases,
    "release": judge_release,
    "revision": judge_revision,
    "chart": judge_chart,
    "install": judge_install,
    "config": judge_config,
}

# Asked before any flag is looked at: whether the rule is about these targets at all.
ABOUT: dict[str, Callable[[Draft], bool]] = {"resources": about_resources, "changes": about_changes}
