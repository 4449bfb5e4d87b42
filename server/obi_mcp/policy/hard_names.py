"""The names of what is denied whatever the level and whatever the configuration, and why; ``hard.py`` finds them.

It is code and not data on purpose: no file that an operator or anybody else writes can lift it. ``policy explain``
knows every name in ``HARD``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HardDenial:
    """One name of the list. ``hint`` is what to do instead; a command line here is tested to be allowed."""

    id: str
    because: str
    hint: str | None = None


HARD: dict[str, HardDenial] = {
    denial.id: denial
    for denial in (
        HardDenial(
            "hard.program",
            "only kubectl, helm and obi run, filtered by jq, grep, head, tail, sort, uniq, wc, cut and tr, named bare",
        ),
        HardDenial(
            "hard.identity",
            "which server is asked, and as whom, is the operator's choice alone",
            "leave the flag out; --context chooses among the contexts that the operator configured",
        ),
        HardDenial(
            "hard.root-flag",
            "root flags are an allow list: kubectl --namespace --context --request-timeout --warnings-as-errors and "
            "-v up to 4; helm --namespace --kube-context",
            "leave the flag out",
        ),
        HardDenial("hard.help", "a program's own help lists what is not allowed here"),
        HardDenial(
            "hard.file",
            "no command line reads or writes a file of the server; documents come in the stdin argument, with -f - for "
            "apply, create, replace, diff and delete, and with --values - for helm",
            "put the document into the stdin argument and use -f - (helm: --values -)",
        ),
        HardDenial(
            "hard.exec",
            "nothing runs code in a pod or opens a tunnel into the cluster; OBI's image holds nothing but OBI",
            "kubectl logs -n {namespace} -l {selector} --tail=50",
        ),
        HardDenial(
            "hard.raw",
            "the only raw paths are metrics, internal/metrics and healthz of an OBI pod's own port, and nothing is "
            "written raw",
            "write the path as /api/v1/namespaces/NAMESPACE/pods/POD:PORT/proxy/metrics, for an OBI pod",
        ),
        HardDenial(
            "hard.credentials",
            "secrets, tokens and certificates are never read or made",
            "kubectl get pods,daemonsets,configmaps -n {namespace} -l {selector}",
        ),
        HardDenial(
            "hard.cluster",
            "nodes, namespaces, resource definitions and the bookkeeping of other controllers are not touched",
            "kubectl get nodes,namespaces",
        ),
        HardDenial(
            "hard.force",
            "nothing is forced, pruned or taken over: what stands in the way may be somebody else's",
            "leave the flag out",
        ),
        HardDenial(
            "hard.unchecked",
            "how the server validates objects, and whether templates may ask the DNS, is not for callers",
            "leave the flag out",
        ),
        HardDenial(
            "hard.helm",
            "helm only reads, renders, installs, upgrades, rolls back and uninstalls OBI's releases",
            "helm list -n {namespace}",
        ),
        HardDenial(
            "hard.config",
            "the kubeconfig is the operator's: only its context is shown",
            "kubectl config current-context",
        ),
        HardDenial(
            "hard.subcommand",
            "plugins, kuberc, completion, alpha commands, kustomize and dumps do not exist here",
            "kubectl get pods -n {namespace} -l {selector}",
        ),
        HardDenial("hard.interactive", "there is no terminal to talk to", "leave the flag out"),
        HardDenial(
            "hard.endless", "a call ends: nothing is watched or followed", "leave the flag out and ask again later"
        ),
        HardDenial(
            "hard.start",
            "starting OBI is never a command line's business: OBI ignores operands that it does not know and starts "
            "instrumenting",
            "use obi config validate - or obi config migrate -, with the document in the stdin argument",
        ),
    )
}
