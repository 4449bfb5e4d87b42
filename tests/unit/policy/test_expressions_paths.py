"""jsonpath, custom columns, --sort-by and go-template: what may be rendered, and where a refusal points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from obi_mcp.policy.expressions import MAX_EXPRESSION, ExpressionDenied, columns, gotemplate, jsonpath, sortby
from obi_mcp.policy.expressions.dump import CUT_NOTE, cut_dump, without_dump
from obi_mcp.policy.expressions.paths import Paths, paths_for
from obi_mcp.policy.resource import ResourceTable

TABLE = ResourceTable.from_data(
    yaml.safe_load((Path(__file__).parents[3] / "policy" / "resources.yaml").read_text(encoding="utf-8"))
)


def paths_of(*words: str) -> Paths:
    entries = [TABLE.find(word) for word in words]
    return paths_for([entry for entry in entries if entry is not None])


PODS = paths_of("pods")


@pytest.mark.parametrize(
    "text",
    [
        "{.items[*].metadata.name}",
        "{.metadata.name}",
        "{ .metadata.name }",
        "{$.metadata.name}",
        "{.items[0].status.phase}",
        "{.items[-1:].metadata.name}",
        "{.items[0:2].metadata.uid}",
        "{.items.*.metadata.name}",
        '{range .items[*]}{.metadata.name}{"\\t"}{.status.podIP}{"\\n"}{end}',
        "{range .items[*]}{range .spec.containers[*]}{.name}={.image} {end}{.spec.nodeName}{end}",
        '{.items[?(@.status.phase=="Running")].metadata.name}',
        '{.items[?(@.metadata.labels.app!="x)y")].metadata.name}',
        "{.items[?(@.spec.nodeName)].metadata.name}",
        "{.items[*].status.containerStatuses[0].restartCount}",
        "{.status.conditions[?(@.type=='Ready')].status}",
        "{.items[*]['metadata.name','status.phase']}",
        "{.metadata.labels.app\\.kubernetes\\.io/name}",
        "{.metadata['labels']['app\\.kubernetes\\.io/name']}",
        "{.metadata.labels}",
        "{.metadata.labels.*}",
        "{.metadata.ownerReferences[0].name}",
        "{range .metadata.labels}{@}{end}",
        "{.kind}/{.apiVersion}",
        "{.status}",
        "no action at all }",
        ".metadata.annotations",
        "{1}{true}{'x'}",
        "{.spec.containers[*].resources.limits.cpu}",
        "{.items[*].spec['containers','initContainers'][*].image}",
    ],
)
def test_jsonpath_allowed(text: str) -> None:
    jsonpath.check(text, PODS)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("{..env}", 2),
        ("{.items..env}", 8),
        ("{@}", 1),
        ("{$}", 1),
        ("{}", 1),
        ("{.}", 2),
        ("{.items}", 1),
        ("{.items[*]}", 1),
        ("{.items[0]}", 1),
        ("{.metadata}", 1),
        ("{.spec}", 1),
        ("{.metadata.*}", 11),
        ("{.*}", 2),
        ("{.spec.*}", 7),
        ("{.spec.containers}", 1),
        ("{.spec.containers[*]}", 1),
        ("{.spec.containers[*].env}", 21),
        ("{.spec.containers[*].*}", 21),
        ("{.metadata.annotations}", 11),
        ("{.metadata$.annotations}", 12),
        ("{.metadata@.annotations}", 12),
        ("{.metadata .annotations}", 12),
        ("{.metadata['annotations']}", 11),
        ("{.metadata['name','annotations']}", 11),
        ("{.metadata.anno\\tations}", 11),
        ("{.metadata.managedFields}", 11),
        ("{.data}", 2),
        ("{.items[*].data}", 11),
        ("{.items[?(@.spec.containers[0].env)].metadata.name}", 31),
        ('{.items[?(@.metadata.annotations.x=="a")].metadata.name}', 21),
        ('{.items[?("a"==@.metadata.annotations.x)].metadata.name}', 26),
        ("{.metadata[?(@.x)]}", 11),
        ("{.metadata.name[0]}", 16),
        ("{.metadata[0]}", 11),
        ("{.status[?(@.x)]}", 9),
        ("{range .metadata.labels}{.data}{end}", 26),
        ("{range .metadata.ownerReferences[*]}{.metadata}{end}", 37),
        ("{range .items[*]}{.metadata.name}", 18),
        ("{range .items[*]}{.env}{end}", 19),
        ("{range}{.metadata.name}{end}", 2),
        ("{end}", 1),
        ("{.metadata range .name}", 12),
        ("{.metadata.annotations 1}", 11),
        ('{.metadata.name "x"}', 17),
        ("{foo}", 2),
        ("{foo(.x)}", 2),
        ("{.metadata.name", 16),
        ("{.items[}", 8),
        ("{.items[a]}", 8),
        ('{.items[?(@.a==="x")]}', 8),
        ("{.items['a}{.data']}", 8),
        ("{'x}", 2),
        ("{#}", 2),
        ("{\x01}", 2),
        ("{.status" + "['conditions','phase']" * 4 + "}", 75),
        ("{.status[" + "'a'," * 9 + "'a']}", 9),
        ("x" * (MAX_EXPRESSION + 1), 1),
    ],
)
def test_jsonpath_denied(text: str, column: int) -> None:
    with pytest.raises(ExpressionDenied) as caught:
        jsonpath.check(text, PODS)
    assert caught.value.column == column
    assert caught.value.reason
    assert caught.value.hint


@pytest.mark.parametrize(
    ("words", "text", "allowed"),
    [
        (("ds",), "{.items[*].spec.template.spec.containers[*].image}", True),
        (("ds",), "{.items[*].spec.template.spec.containers[*].env}", False),
        (("ds",), "{.items[*].spec.nodeName}", False),
        (("deploy",), "{.spec.replicas}", True),
        (("pods", "ds"), "{.items[*].metadata.name}", True),
        (("pods", "ds"), "{.items[*].status}", True),
        (("pods", "ds"), "{.items[*].spec.nodeName}", False),
        (("cm",), "{.items[*].metadata.name}", True),
        (("cm",), "{.data}", False),
        (("cm",), "{.items[*].data}", False),
        (("no",), "{.items[*].status.nodeInfo.kernelVersion}", True),
        (("no",), "{.items[*].status}", False),
        (("no",), "{.items[*].status.images}", False),
        (("ns",), "{.items[*].metadata.labels}", True),
        (("svc",), "{.spec.ports[0].port}", True),
        (("events",), "{.items[*].message}", True),
        (("events",), "{.items[*].metadata.annotations}", False),
        (("podmetrics",), "{.items[*].containers[0].usage.memory}", True),
        (("clusterroles",), "{.rules[0].verbs}", True),
        (("smon",), "{.spec}", False),
    ],
)
def test_each_kind_has_its_own_list(words: tuple[str, ...], text: str, allowed: bool) -> None:
    if allowed:
        jsonpath.check(text, paths_of(*words))
        return
    with pytest.raises(ExpressionDenied):
        jsonpath.check(text, paths_of(*words))


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("NAME:.metadata.name,NODE:.spec.nodeName", None),
        ("NAME:metadata.name", None),
        ("NAME:{.metadata.name}", None),
        ("NAME:{metadata.name}", None),
        ("IMAGE:.spec.containers[*].image", None),
        (":.metadata.name", None),
        ("N:.metadata.name,A:.metadata.annotations", 29),
        ("A:{.metadata.annotations}", 13),
        ("A:.metadata", 3),
        ("A:..env", 3),
        ("A:.", 3),
        ("A:@", 3),
        ("A", 1),
        ("A:", 1),
        ("", 1),
        ("A:.metadata.name,", 18),
        ("A:.metadata.name}{.data", 3),
        ("A:.metadata['name,annotations']", 12),
        ("A:.metadata.name,B:spec", 20),
    ],
)
def test_custom_columns(text: str, column: int | None) -> None:
    assert _column_of_denial(columns.check, text) == column


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", True),
        (".metadata.creationTimestamp", True),
        ("metadata.creationTimestamp", True),
        ("{.metadata.name}", True),
        ("{metadata.name}", True),
        (".status.containerStatuses[0].restartCount", True),
        (".spec.containers[0].env[0].value", False),
        (".metadata.annotations.x", False),
        ("..x", False),
        ("{.metadata.name}{.data}", False),
        ("{range .items[*]}", False),
    ],
)
def test_sort_by(text: str, allowed: bool) -> None:
    assert (_column_of_denial(sortby.check, text) is None) is allowed


@pytest.mark.parametrize(
    "text",
    [
        "plain text, {.metadata.annotations} too",
        "{{.metadata.name}}",
        "{{ .metadata.name }}",
        "{{- .metadata.name -}}",
        '{{range .items}}{{.metadata.name}} {{.status.phase}}{{"\\n"}}{{end}}',
        "{{range .items}}{{range .spec.containers}}{{.image}}{{end}}{{else}}none{{end}}",
        '{{if eq .status.phase "Running" "Pending"}}y{{else if .items}}z{{else}}n{{end}}',
        '{{if ne .kind "List"}}{{.metadata.name}}{{end}}',
        "{{len .items}}",
        "{{.items | len}}",
        "{{(index .items 0).metadata.name}}",
        '{{index .metadata.labels "app.kubernetes.io/name"}}',
        "{{index .metadata.labels `app`}}",
        "{{(index (index .items 0).status.containerStatuses 0).restartCount}}",
        '{{.metadata.name | eq "x"}}',
        "{{range .metadata.labels}}{{.}}{{end}}",
        '{{"}}"}}',
        "{{true}}{{7}}",
    ],
)
def test_gotemplate_allowed(text: str) -> None:
    gotemplate.check(text, PODS)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("{{.}}", 1),
        ("{{ . }}", 1),
        ("{{$}}", 3),
        ("{{$x := .}}", 3),
        ("{{range $i, $e := .items}}{{end}}", 8),
        ("{{range .items}}{{$.metadata}}{{end}}", 19),
        ("{{.metadata}}", 1),
        ("{{.items}}", 1),
        ("{{.spec.containers}}", 1),
        ("{{.metadata.annotations}}", 3),
        ('{{index .metadata "annotations"}}', 3),
        ('{{index . "data"}}', 3),
        ("{{index .items .metadata.name}}", 3),
        ('{{(index .items 0) | printf "%v"}}', 22),
        ('{{printf "%v" .}}', 3),
        ("{{print .}}", 3),
        ("{{js .}}", 3),
        ("{{call .x}}", 3),
        ("{{slice .items 0 1}}", 3),
        ('{{"YQ==" | base64decode}}', 12),
        ('{{exists . "data"}}', 3),
        ("{{and .metadata .data}}", 3),
        ("{{with .metadata}}{{.annotations}}{{end}}", 3),
        ('{{define "a"}}{{.}}{{end}}', 3),
        ('{{template "a" .}}', 3),
        ('{{block "a" .}}{{end}}', 3),
        ("{{/* note */}}", 3),
        ("{{range .items}}{{.}}{{end}}", 17),
        ("{{range .items}}{{break}}{{end}}", 19),
        ("{{range .spec}}{{end}}", 1),
        ("{{range .}}{{end}}", 1),
        ("{{range 1000000}}{{end}}", 1),
        ("{{range .items}}", 1),
        ("{{range .items}}{{else if .items}}{{end}}", 17),
        ("{{if .items}}{{else}}{{else}}{{end}}", 22),
        ("{{if .metadata}}x{{end}}", 1),
        ("{{if .metadata.annotations.x}}x{{end}}", 6),
        ("{{if eq .metadata.annotations.x 1}}x{{end}}", 9),
        ("{{if eq .spec .spec}}x{{end}}", 6),
        ("{{len .metadata}}", 3),
        ("{{len .spec.containers .items}}", 3),
        ("{{eq .kind}}", 3),
        ("{{end}}", 1),
        ("{{else}}", 1),
        ("{{}}", 1),
        ("{{.metadata.name .kind}}", 3),
        ("{{.kind | .metadata.name}}", 11),
        ("{{(.kind}}", 3),
        ("{{.kind)}}", 8),
        ("{{'a'}}", 3),
        ("{{nil}}", 3),
        ("{{.metadata.name", 17),
        ("{{{.kind}}}", 3),
        ("{{.kind,.kind}}", 8),
        ("{{len" + "(" * 20 + ".items" + ")" * 20 + "}}", 6),
        ("{{" + "(" * 40 + ".kind" + ")" * 40 + "}}", 19),
        ("{{" + "x" * MAX_EXPRESSION, 1),
    ],
)
def test_gotemplate_denied(text: str, column: int) -> None:
    with pytest.raises(ExpressionDenied) as caught:
        gotemplate.check(text, PODS)
    assert caught.value.column == column


FRAGMENTS = st.sampled_from(
    (
        *"{}[].@$'\"()*,:? |-0\\",
        *[
            "items",
            "metadata",
            "annotations",
            "spec",
            "containers",
            "env",
            "name",
            "..",
            "{{",
            "}}",
            "[*]",
            "[?(",
            ")]",
            "{end}",
        ],
        *("range ", "end", "if ", "index ", "{range .items[*]}"),
    )
)


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_gets_an_answer_with_a_column_inside_it(text: str) -> None:
    columns_of_denials = [_column_of_denial(check, text) for check in CHECKS]
    assert all(column is None or 1 <= column <= len(text) + 1 for column in columns_of_denials)


def test_paths_are_for_at_least_one_kind() -> None:
    with pytest.raises(ValueError):
        paths_for([])


DUMPED = b"a b\nError executing template: x. Printing more information for debugging the template:\n\traw data was:\nS"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"", b""),
        (DUMPED, b"a b\nError executing template: x. " + CUT_NOTE),
        (b"F01 sorter.go:1] Failed to get i values for &Unstructured{S", b"F01 sorter.go:1] " + CUT_NOTE),
        (b"F01 sorter.go:1] Failed to get j values for &Unstructured{S", b"F01 sorter.go:1] " + CUT_NOTE),
    ],
)
def test_dumps_are_cut(output: bytes, expected: bytes) -> None:
    assert without_dump(output) == expected
    assert cut_dump(output)[1] is (output != expected)


CHECKS: tuple[Callable[[str, Paths], None], ...] = (jsonpath.check, columns.check, sortby.check, gotemplate.check)


def _column_of_denial(check: Callable[[str, Paths], None], text: str) -> int | None:
    try:
        check(text, PODS)
    except ExpressionDenied as denied:
        return denied.column
    return None
