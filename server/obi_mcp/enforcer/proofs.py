"""Every check to its proof. What has no proof here does not run."""

from __future__ import annotations

from obi_mcp.enforcer.case import Case, Proved
from obi_mcp.enforcer.membership import prove_members
from obi_mcp.enforcer.raw import prove_raw
from obi_mcp.enforcer.releases import prove_release, prove_render
from obi_mcp.enforcer.sidecar import prove_sidecar
from obi_mcp.enforcer.written import prove_change, prove_documents, prove_undo
from obi_mcp.policy.model import (
    ChangeSpec,
    Check,
    DocumentsSpec,
    MembersSpec,
    RawSpec,
    ReleaseSpec,
    RenderSpec,
    SidecarSpec,
    UndoSpec,
)


async def prove(case: Case, check: Check) -> Proved:
    """Make one check against the cluster. Raises: ClusterUnreachable, ProgramFailed, CallTimeout."""
    match check.spec:
        case MembersSpec() as spec:
            return await prove_members(case, check, spec)
        case DocumentsSpec() as spec:
            return await prove_documents(case, check, spec)
        case ChangeSpec() as spec:
            return await prove_change(case, check, spec)
        case SidecarSpec() as spec:
            return await prove_sidecar(case, check, spec)
        case UndoSpec() as spec:
            return await prove_undo(case, check, spec)
        case ReleaseSpec() as spec:
            return await prove_release(case, check, spec)
        case RenderSpec() as spec:
            return await prove_render(case, check, spec)
        case RawSpec() as spec:
            return await prove_raw(case, check, spec)
