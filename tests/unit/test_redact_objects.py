"""Secrets in JSON data and argument vectors, and characters that deceive."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obi_mcp.command.lexer import lex
from obi_mcp.redact import Redactor, strip_controls
from obi_mcp.redact.objects import Looks, ObjectRedactor

REDACTOR = Redactor.load()
GONE = "[redacted]"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvYmkifQ.c2lnbmF0dXJl"

OBJECTS: list[tuple[str, Any, Any]] = [
    ("a secret name", {"password": "x", "a": 1}, {"password": GONE, "a": 1}),
    ("a number", {"apiKey": 12345}, {"apiKey": GONE}),
    ("nothing to hide", {"token": "", "secret": None, "x-auth": True}, {"token": "", "secret": None, "x-auth": True}),
    (
        "environment",
        {"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "A", "value": "b"}]},
        {"env": [{"name": "DB_PASSWORD", "value": GONE}, {"name": "A", "value": "b"}]},
    ),
    (
        "a reference is no secret",
        {
            "env": [
                {"name": "T_TOKEN", "value": "$(TOKEN)"},
                {"name": "X_TOKEN", "valueFrom": {"secretKeyRef": {"key": "k"}}},
            ]
        },
        {
            "env": [
                {"name": "T_TOKEN", "value": "$(TOKEN)"},
                {"name": "X_TOKEN", "valueFrom": {"secretKeyRef": {"key": "k"}}},
            ]
        },
    ),
    (
        "otlp headers in one string",
        {"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "api-key=x"},
        {"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": GONE},
    ),
    ("headers", {"headers": {"X-A": "b", "n": 1}}, {"headers": {"X-A": GONE, "n": GONE}}),
    (
        "headers of a probe",
        {"httpHeaders": [{"name": "Authorization", "value": "x"}]},
        {"httpHeaders": [{"name": "Authorization", "value": GONE}]},
    ),
    (
        "a projected token is no token",
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
    ),
    (
        "a Secret",
        {"kind": "Secret", "data": {"a": "eA=="}, "stringData": {"b": "c"}, "type": "Opaque"},
        {"kind": "Secret", "data": {"a": GONE}, "stringData": {"b": GONE}, "type": "Opaque"},
    ),
    (
        "a Secret in a List",
        {"kind": "List", "items": [{"kind": "Secret", "data": {"a": "eA=="}}]},
        {"kind": "List", "items": [{"kind": "Secret", "data": {"a": GONE}}]},
    ),
    (
        "YAML in a ConfigMap",
        {"kind": "ConfigMap", "data": {"c.yml": "otel_traces_export:\n  headers:\n    api-key: abc\nport: 1\n"}},
        {"kind": "ConfigMap", "data": {"c.yml": f"otel_traces_export:\n  headers:\n    api-key: {GONE}\nport: 1\n"}},
    ),
    (
        "the whole object once more",
        {
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": '{"kind":"Secret","data":{"a":"eA=="}}\n'
            }
        },
        {
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": '{"kind":"Secret","data":{"a":"[redacted]"}}'
            }
        },
    ),
    ("JSON in a string", {"a": '{"name":"X_TOKEN","value":"abc"}'}, {"a": f'{{"name":"X_TOKEN","value":"{GONE}"}}'}),
    ("a known look", {"a": f"x {JWT}"}, {"a": f"x {GONE}"}),
    ("a URL", {"endpoint": "http://u:p@h:4318"}, {"endpoint": f"http://{GONE}@h:4318"}),
    (
        "arguments",
        {"args": ["--token", "abc", "-x", "--password=y"]},
        {"args": ["--token", GONE, "-x", f"--password={GONE}"]},
    ),
    ("a list of secrets", {"token": ["a", {"name": "b"}]}, {"token": [GONE, {"name": "b"}]}),
]

ARGUMENTS = [
    (("kubectl", "get", "pods", "-n", "obi"), ("kubectl", "get", "pods", "-n", "obi")),
    (("helm", "upgrade", "--set", "auth.password=x,a=b"), ("helm", "upgrade", "--set", f"auth.password={GONE},a=b")),
    (("kubectl", "--token", "abc"), ("kubectl", "--token", GONE)),
    (("kubectl", "--token=abc"), ("kubectl", f"--token={GONE}")),
    (("--set", "auth.password=x y'z,a=b"), ("--set", f"auth.password={GONE},a=b")),
    (("OTEL_EXPORTER_OTLP_HEADERS=a=b,c=d",), (f"OTEL_EXPORTER_OTLP_HEADERS={GONE}",)),
    (("curl", "--user", "obi:x", "--user", "1:1"), ("curl", "--user", GONE, "--user", "1:1")),
    (("T_TOKEN=$(TOKEN)",), ("T_TOKEN=$(TOKEN)",)),
    (("curl", f"Bearer {JWT}"), ("curl", f"Bearer {GONE}")),
]

CONTROLS = [
    ("plain\ttext\n", "plain\ttext\n", 0),
    ("\x1b[31mred\x1b[0m", "red", 9),
    ("\x1b]0;title\x07x", "x", 10),
    ("\x1b]8;;http://e\x1b\\link\x1b]8;;\x1b\\", "link", 22),
    ("\x9b31mred", "red", 4),
    ("a\r\nb\x00\x08c", "a\nbc", 3),
    ("user\u202etxt.exe", "usertxt.exe", 1),
    ("zero\u200bwidth\ufeff\u2060", "zerowidth", 3),
    ("tag\U000e0041\U000e007f", "tag", 2),
    ("Grüße, 日本 ✓ 👍", "Grüße, 日本 ✓ 👍", 0),
    ("\x1b]0;never closed\nnext", "\nnext", 16),
    ("half\ud800", "half", 1),
]


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in OBJECTS], ids=[row[0] for row in OBJECTS])
def test_objects_lose_their_secrets(value: Any, expected: Any) -> None:
    before = json.dumps(value)
    assert REDACTOR.value(value) == expected
    assert json.dumps(value) == before


@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in OBJECTS], ids=[row[0] for row in OBJECTS])
def test_the_source_text_only_saves_time(value: Any, expected: Any) -> None:
    assert REDACTOR.value(value, json.dumps(value).encode()) == expected


def test_what_holds_no_secret_is_the_same_object() -> None:
    value = {"kind": "Pod", "metadata": {"name": "obi-1", "uid": "x"}, "spec": {"containers": [{"image": "a:b"}]}}
    assert REDACTOR.value(value) is value


@pytest.mark.parametrize(("words", "expected"), ARGUMENTS)
def test_argument_vectors_lose_their_secrets(words: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert REDACTOR.argv(words) == expected


# What a caller sends is recorded: none of it may hold the word.
SENT = [
    "helm install obi obi --set config.otel_traces_export.headers.x-team=swordfish",
    "helm install obi obi --set 'env[0].name=API_TOKEN,env[0].value=swordfish,x=y'",
    """helm install obi obi --set-json 'config={"headers": {"x-team": "swordfish"}}'""",
    "kubectl get pods -o json | jq --arg token swordfish .",
    """kubectl patch cm obi -p '{"data": {"a.yml": "x: &a swordfish\\nheaders: {x: *a}"}}'""",
    """kubectl patch cm obi --type=json --patch='[{"op": "add", "path": "/data/password", "value": "swordfish"}]'""",
    """kubectl patch ds obi -p '[{"op":"add","path":"/spec/containers/0/env/0/value","value":"swordfish"}]'""",
    """kubectl patch ds obi -p '[{"op":"add","path":"/metadata/annotations/x.headers/y","value":"swordfish"}]'""",
]


@pytest.mark.parametrize("line", SENT)
def test_no_form_of_a_command_line_keeps_a_secret(line: str) -> None:
    made = REDACTOR.command(line)
    assert "swordfish" not in made and "[redacted]" in made
    assert REDACTOR.command(made) == made
    words = [[token.text for token in stage] for stage in lex(line)]
    assert "swordfish" not in json.dumps(REDACTOR.value({"pipeline": words}))


COMMANDS = [
    ("kubectl get pods -n obi", "kubectl get pods -n obi"),
    ("kubectl  get   'pods'", "kubectl  get   'pods'"),
    ("kubectl --token=abc get pods", f"kubectl '--token={GONE}' get pods"),
    ("helm --set a.password='x y'\"z\" | jq .", f"helm --set 'a.password={GONE}' | jq ."),
    ("kubectl get pods -l 'password: x\ny'", f"kubectl get pods -l 'password: {GONE} … and 1 more lines"),
    ("kubectl get pods; echo --token abc", f"kubectl get pods; echo --token {GONE}"),
]


@pytest.mark.parametrize(("line", "expected"), COMMANDS)
def test_command_lines_lose_their_secrets_word_by_word(line: str, expected: str) -> None:
    assert REDACTOR.command(line) == expected


@pytest.mark.parametrize(("text", "expected", "count"), CONTROLS)
def test_what_deceives_is_removed_and_counted(text: str, expected: str, count: int) -> None:
    assert strip_controls(text) == (expected, count)


_WORDS = st.sampled_from(
    [
        *("password", "token", "api_key", "TOKEN_ID", "secret", "authorization", "Bearer", "user", "name", "value"),
        *(
            "data",
            "kind",
            "Secret",
            "https://u:p@h",
            "?sig=",
            ";sig=",
            "&key=",
            "=",
            ":",
            " ",
            "  ",
            "\n",
            '"',
            "'",
            "-",
        ),
        *(
            "--",
            "-u",
            "AKIA0123456789ABCDEF",
            JWT,
            "QUJD" * 18,
            "abc",
            "x1y2z3w4",
            "%3d",
            "\\",
            "d",
            ",",
            "\t",
            "@tcp(",
        ),
        *("-----BEGIN PRIVATE KEY-----", "AUTH ", "0f" * 32),
    ]
)
_STRINGS = st.lists(_WORDS, max_size=7).map("".join)
_FIELDS = st.sampled_from(
    ["name", "value", "data", "kind", "env", "args", "kubectl.kubernetes.io/last-applied-configuration"]
)
_VALUES = st.recursive(
    _STRINGS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_FIELDS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_FIELDS, _VALUES, max_size=4))
def test_one_search_through_an_object_finds_what_looking_at_each_string_does(value: dict[str, Any]) -> None:
    objects = ObjectRedactor(REDACTOR.rules, REDACTOR.text)
    assert objects.redact(value, looks=objects.looks(value)) == objects.redact(value, looks=Looks.ALL)


def test_an_object_without_anything_secret_is_passed_over() -> None:
    objects = ObjectRedactor(REDACTOR.rules, REDACTOR.text)
    pod = {
        "metadata": {"name": "obi-x", "uid": "5a1e"},
        "status": {"startTime": "2026-11-21T07:25:16Z", "ip": "10.0.0.1"},
    }
    assert objects.looks(pod) is Looks.NOT
    assert objects.looks({**pod, "args": ["--token=x"]}) is Looks.ALL
