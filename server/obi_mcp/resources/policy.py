"""What this server allows, and what it was asked."""

from __future__ import annotations

import json

from obi_mcp.audit import AuditEntry
from obi_mcp.policy.explain import as_json, effect_as_json, rules_at
from obi_mcp.resources.spec import READ, ResourceSpec
from obi_mcp.toolsets.base import Services

RULES = "obi://policy/rules"


async def _rules(services: Services, caller: str) -> str:
    policy, access = services.effects.policy, services.settings.access
    services.audit.record(AuditEntry(READ, RULES, caller))
    commands = [as_json(policy, rule) for rule in rules_at(policy, access)]
    effects = [effect_as_json(rule) for rule in policy.effects.rules if rule.access <= access]
    return json.dumps({"access": access.label, "rules": [*commands, *effects]})


async def _audit(services: Services, caller: str) -> str:
    return "".join(f"{line}\n" for line in services.audit.recent)


def _audit_stamp(services: Services) -> object:
    return services.audit.recent[-1:]


SPECS = (
    ResourceSpec(RULES, "What this server allows", "The rules at its access level.", _rules),
    ResourceSpec(
        "obi://audit/recent",
        "The last calls",
        "The last lines of the audit log, since this server started.",
        _audit,
        _audit_stamp,
        mime_type="application/x-ndjson",
    ),
)
