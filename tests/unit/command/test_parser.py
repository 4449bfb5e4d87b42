"""A command line is read as the program itself would read it; what is stricter is refused, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obi_mcp.command.grammar import Grammars
from obi_mcp.command.model import Pipeline
from obi_mcp.command.parser import parse
from obi_mcp.errors import InvalidCommand, UnknownProgram

GRAMMARS = Grammars.load(Path(__file__).parents[3] / "policy" / "grammar")

READ = [  # line, argv of each stage
    ("kubectl get pods", ["kubectl get pods"]),
    ("kubectl get pods -nobi", ["kubectl get --namespace=obi pods"]),
    ("kubectl get pods -n=obi", ["kubectl get --namespace=obi pods"]),
    ("kubectl get pods -n obi", ["kubectl get --namespace=obi pods"]),
    ("kubectl get pods --namespace obi", ["kubectl get --namespace=obi pods"]),
    ("kubectl -n obi get pods", ["kubectl get --namespace=obi pods"]),
    ("kubectl --namespace=obi get pods", ["kubectl get --namespace=obi pods"]),
    ("kubectl -nobi get pods", ["kubectl get --namespace=obi pods"]),
    ("kubectl get -n get pods", ["kubectl get --namespace=get pods"]),
    ("kubectl -n delete get pods", ["kubectl get --namespace=delete pods"]),
    ("kubectl get pods -Aw", ["kubectl get --all-namespaces=true --watch=true pods"]),
    ("kubectl get pods -A=false", ["kubectl get --all-namespaces=false pods"]),
    ("kubectl get pods -Ashttps://x", ["kubectl get --all-namespaces=true --server=https://x pods"]),
    ("kubectl get pods -ojson", ["kubectl get --output=json pods"]),
    ("kubectl get pods --as_group=x", ["kubectl get --as-group=x pods"]),
    ("kubectl get pods --as-group=x --as-group=y", ["kubectl get --as-group=x --as-group=y pods"]),
    ("kubectl apply -f -,FILE", ["kubectl apply --filename=-,FILE"]),
    ("kubectl apply --dry-run server -f -", ["kubectl apply --dry-run=unchanged --filename=- server"]),
    ("kubectl apply --dry-run=server -f -", ["kubectl apply --dry-run=server --filename=-"]),
    ("kubectl get pods -- -A", ["kubectl get pods -- -A"]),
    ("kubectl get -- pods", ["kubectl get -- pods"]),
    ("kubectl get pods ''", ["kubectl get pods "]),
    ("kubectl rollout -n obi status ds/obi", ["kubectl rollout status --namespace=obi ds/obi"]),
    ("kubectl rollout status ds/obi --timeout 3s", ["kubectl rollout status --timeout=3s ds/obi"]),
    ("kubectl top po", ["kubectl top pod"]),
    ("kubectl top po x", ["kubectl top pod x"]),
    ("kubectl set image ds/obi obi=x", ["kubectl set image ds/obi obi=x"]),
    ("kubectl get pods --watch=T", ["kubectl get --watch=true pods"]),
    (
        "kubectl config set-cluster x --insecure-skip-tls-verify=T",
        ["kubectl config set-cluster --insecure-skip-tls-verify=true x"],
    ),
    ("helm ls -n obi", ["helm list --namespace=obi"]),
    ("helm -n kube-system uninstall x", ["helm uninstall --namespace=kube-system x"]),
    ("helm get values obi", ["helm get values obi"]),
    ("helm template obi obi --set a=b,c=d --set e=f", ["helm template --set=a=b,c=d --set=e=f obi obi"]),
    ("obi config validate -", ["obi config validate -"]),
    ("obi config validate -mode=standalone -", ["obi config validate --mode=standalone -"]),
    ("obi config validate - --mode=standalone", ["obi config validate -- - --mode=standalone"]),
    ("kubectl get pods | head -20", ["kubectl get pods", "head --lines=20"]),
    ("kubectl get pods | tail -n +3", ["kubectl get pods", "tail --lines=+3"]),
    ("kubectl get pods | grep -5 -A3 x", ["kubectl get pods", "grep --context=5 --after-context=3 x"]),
    ("kubectl get pods | grep -e x -ey", ["kubectl get pods", "grep --regexp=x --regexp=y"]),
    ("kubectl get pods | grep -X '' x", ["kubectl get pods", "grep -X  x"]),
    ("kubectl get pods | grep -Xa x", ["kubectl get pods", "grep -Xa x"]),
    ("kubectl get pods | grep -- -x", ["kubectl get pods", "grep -- -x"]),
    ("kubectl get pods | grep --color x", ["kubectl get pods", "grep --color=auto x"]),
    ("kubectl get pods | sort -k2,2n -t, -u", ["kubectl get pods", "sort --key=2,2n --field-separator=, --unique"]),
    ("kubectl get pods | tr -d x", ["kubectl get pods", "tr --delete x"]),
    ("kubectl get pods | tr a -d", ["kubectl get pods", "tr -- a -d"]),
    ("kubectl get pods | jq -rc .x", ["kubectl get pods", "jq --raw-output --compact-output .x"]),
    ("kubectl get pods | jq .x --arg a b", ["kubectl get pods", "jq --arg a b .x"]),
    ("kubectl get pods | jq .x --args a -- -b", ["kubectl get pods", "jq --args -- .x a -b"]),
    ("kubectl get pods | jq --slurpfile a f .", ["kubectl get pods", "jq --slurpfile a f ."]),
]

REFUSED = [  # line, stage, word
    ("kubectl -A get delete cm x", 0, 1),
    ("kubectl -A get pods", 0, 1),
    ("kubectl --watch get pods", 0, 1),
    ("kubectl -h get pods", 0, 1),
    ("kubectl --help get", 0, 1),
    ("kubectl rollout -h status", 0, 2),
    ("kubectl alpha --help x", 0, 2),
    ("kubectl -n obi -h pods", 0, 3),
    ("kubectl rollout --watch status ds/x", 0, 2),
    ("kubectl foo", 0, 1),
    ("kubectl ge pods", 0, 1),
    ("kubectl GET pods", 0, 1),
    ("kubectl __complete get secrets", 0, 1),
    ("helm __completeNoDesc x", 0, 1),
    ("helm docs", 0, 1),
    ("kubectl get pods --unknown-flag", 0, 3),
    ("kubectl get pods --namespac obi", 0, 3),
    ("kubectl get pods -Z", 0, 3),
    ("kubectl get pods -AZ", 0, 3),
    ("kubectl get pods -A=maybe", 0, 3),
    ("kubectl get pods -n", 0, 3),
    ("kubectl get pods ---n", 0, 3),
    ("kubectl get pods --=n", 0, 3),
    ("kubectl get pods -n a -n b", 0, 5),
    ("kubectl get pods -n a --namespace=b", 0, 5),
    ("kubectl get pods --watch --watch=false", 0, 4),
    ("kubectl logs x --tail=0x10", 0, 3),
    ("kubectl logs x --since=tomorrow", 0, 3),
    ('kubectl apply -f \'"a","b"\'', 0, 2),
    ("kubectl get pods -test.v", 0, 3),
    ("kubectl get pods -n\u00e9 -\u00e9", 0, 4),
    ("helm list --kube_context=x", 0, 2),
    ("obi config frobnicate x", 0, 2),
    ("obi confg", 0, 1),
    ("obi config", 0, 1),
    ("obi config -", 0, 1),
    ("obi config '' validate -", 0, 2),
    ("obi '' config validate -", 0, 1),
    ("kubectl get pods -l 9=x,a-v=y,app=obi", 0, 3),
    ("kubectl get pods --selector a--kuberc=y", 0, 3),
    ("kubectl label ds obi a-v=9", 0, 4),
    ("kubectl create x", 0, 2),
    ("kubectl exec -itest.v x", 0, 2),
    ("helm history obi --max=-1x", 0, 3),
    ("helm status obi -o ''", 0, 3),
    ("helm upgrade obi obi --rollback-on-failure --atomic=false", 0, 5),
    ("helm search hub --max-col-width=+1", 0, 3),
    ("kubectl exec -test.v x", 0, 2),
    ("helm -h -- x y", 0, 1),
    ("kubectl get pods | head --lin=3", 1, 1),
    ("kubectl get pods | grep --quiet=yes x", 1, 1),
    ("kubectl get pods | grep -c -c x", 1, 2),
    ("kubectl get pods | head -n", 1, 1),
    ("kubectl get pods | head -q -5", 1, 2),
    ("kubectl get pods | tail -5 -q", 1, 1),
    ("kubectl get pods | jq . /etc/passwd", 1, 2),
    ("kubectl get pods | jq . /etc/passwd --args", 1, 2),
    ("kubectl get pods | jq --args --jsonargs . 1", 1, 2),
    ("kubectl get pods | jq --arg a", 1, 1),
    ("kubectl get pods | jq -rr .", 1, 1),
    ("kubectl get pods | jq -rL .", 1, 1),
    ("kubectl get pods | jq --frob .", 1, 1),
]

UNKNOWN = [  # line, stage
    ("awk x", 0),
    ("/usr/bin/kubectl get pods", 0),
    ("./kubectl get pods", 0),
    ("Kubectl get pods", 0),
    ("jq -n 1", 0),
    ("sh -c id", 0),
    ("kubectl get pods | awk x", 1),
    ("kubectl get pods | kubectl delete -f -", 1),
    ("kubectl get pods | JQ .", 1),
    ("kubectl get pods | /usr/bin/jq .", 1),
    ("kubectl get pods | ''", 1),
    ("kubectl get pods | jq . | xargs rm", 2),
]


def argv(pipeline: Pipeline) -> list[str]:
    return [" ".join(words) for words in pipeline.argv()]


@pytest.mark.parametrize(("line", "expected"), READ)
def test_a_line_is_read_as_the_program_reads_it(line: str, expected: list[str]) -> None:
    assert argv(parse(line, GRAMMARS)) == expected


@pytest.mark.parametrize(("line", "_expected"), READ)
def test_reading_the_rebuilt_vector_again_gives_the_same_command(line: str, _expected: list[str]) -> None:
    once = parse(line, GRAMMARS).argv()
    again = " | ".join(" ".join("'" + word.replace("'", "'\\''") + "'" for word in words) for words in once)
    assert parse(again, GRAMMARS).argv() == once


@pytest.mark.parametrize(("line", "stage", "word"), REFUSED)
def test_what_the_program_does_not_know_is_refused_at_its_word(line: str, stage: int, word: int) -> None:
    with pytest.raises(InvalidCommand) as caught:
        parse(line, GRAMMARS)
    error = caught.value
    assert not isinstance(error, UnknownProgram)
    assert (error.stage, error.word) == (stage, word)
    assert error.column is not None and error.hint


EARLY = [
    ("kubectl -A get delete cm obi", ": it takes 'get' for its value and would run delete", "kubectl get … -A"),
    ("kubectl -A x delete cm obi", ": it takes 'x' for its value and would run delete", "kubectl delete … -A"),
    ("kubectl --watch=true get pods", "", "kubectl get … --watch=true"),
]


@pytest.mark.parametrize(("line", "reads", "instead"), EARLY, ids=[row[0] for row in EARLY])
def test_what_a_flag_before_the_command_would_do_is_said(line: str, reads: str, instead: str) -> None:
    with pytest.raises(InvalidCommand) as caught:
        parse(line, GRAMMARS)
    assert caught.value.message.partition("does not know it")[2] == reads
    assert caught.value.hint == f"write flags after the command: {instead}"


@pytest.mark.parametrize(("line", "stage"), UNKNOWN)
def test_a_program_that_does_not_exist_here_is_refused_by_name(line: str, stage: int) -> None:
    with pytest.raises(UnknownProgram) as caught:
        parse(line, GRAMMARS)
    assert (caught.value.stage, caught.value.word) == (stage, 0)


def test_nine_stages_are_read_and_ten_are_refused() -> None:
    assert len(parse("kubectl get pods" + " | sort" * 8, GRAMMARS).filters) == 8
    with pytest.raises(InvalidCommand, match="10 stages"):
        parse("kubectl get pods" + " | sort" * 9, GRAMMARS)


WORD = st.one_of(
    st.sampled_from(
        [
            "get",
            "pods",
            "delete",
            "-n",
            "-A",
            "-o",
            "--",
            "-",
            "--output=json",
            "-nobi",
            "rollout",
            "status",
            "-f",
            "-w",
        ]
    ),
    st.text("abc-=_,A", max_size=6),
)


@given(st.sampled_from(["kubectl", "helm", "obi"]), st.lists(WORD, max_size=7))
def test_any_line_is_read_or_refused_and_what_is_read_reads_the_same_again(program: str, words: list[str]) -> None:
    line = " ".join([program, *("'" + word + "'" for word in words)])
    try:
        once = parse(line, GRAMMARS)
    except InvalidCommand:
        return
    again = " ".join("'" + word + "'" for word in once.argv()[0])
    assert parse(again, GRAMMARS).argv() == once.argv()
