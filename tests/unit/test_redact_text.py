"""Secrets in text: YAML, JSON, logfmt, Go, URLs and keys, whatever stands around them and however it is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from obi_mcp.policy.shipped import shipped_policy
from obi_mcp.redact import Redactor

REDACTOR = Redactor.load()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJvYmkifQ.c2lnbmF0dXJl"

LINES = [
    ("invalid API key: abcd1234", "invalid API key: [redacted]"),
    ("API KEY=abcd", "API KEY=[redacted]"),
    ("the secret key : abcd1234", "the secret key : [redacted]"),
    # YAML
    ("password: hunter2", "password: [redacted]"),
    ("  api-key: my pass phrase", "  api-key: [redacted]"),
    ("- clientSecret: x", "- clientSecret: [redacted]"),
    ("token: 'it''s'  # why", "token: '[redacted]'  # why"),
    ("token: {path: token}", "token: {path: token}"),
    ("password: ''", "password: ''"),
    ("headers: {X-Scope-OrgID: tenant, Authorization: Basic YWJj}", "headers: [redacted]"),
    ("{user: bob, password: hunter2}", "{user: bob, password: [redacted]}"),
    # kubectl describe
    ("      DB_PASSWORD:  hunter2", "      DB_PASSWORD:  [redacted]"),
    (
        "      API_TOKEN:  <set to the key 'token' in secret 'obi'>  Optional: false",
        "      API_TOKEN:  <set to the key 'token' in secret 'obi'>  Optional: false",
    ),
    ("Image pull secrets:  <none>", "Image pull secrets:  <none>"),
    # JSON, whole and in strings
    ('{"password":"hun\\"ter2","x":1}', '{"password":"[redacted]","x":1}'),
    ('{"password": 12345, "x": 1}', '{"password": "[redacted]", "x": 1}'),
    ('    "token": "abc",', '    "token": "[redacted]",'),
    ('"{\\"password\\":\\"hunter2\\",\\"x\\":1}"', '"{\\"password\\":\\"[redacted]\\",\\"x\\":1}"'),
    ('{"headers":{"a":"b"},"x":1}', '{"headers":"[redacted]","x":1}'),
    ('{"name":"X_TOKEN","value":"abc"}', '{"name":"X_TOKEN","value":"[redacted]"}'),
    ('{"name":"X_TOKEN","valueFrom":{"a":1}}', '{"name":"X_TOKEN","valueFrom":{"a":1}}'),
    # environment, logfmt, Go
    ("OTEL_EXPORTER_OTLP_HEADERS=api-key=abc,x=y next", "OTEL_EXPORTER_OTLP_HEADERS=[redacted] next"),
    ("level=INFO token=abc msg=hello", "level=INFO token=[redacted] msg=hello"),
    ('level=INFO api_key="a b" msg=hello', 'level=INFO api_key="[redacted]" msg=hello'),
    ("map[Authorization:[Bearer abc] X:[1]]", "map[Authorization:[redacted] X:[1]]"),
    ("{Name:DB_PASSWORD Value:hunter2}", "{Name:DB_PASSWORD Value:[redacted]}"),
    ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
    ("sent Authorization: Bearer abcdefgh123 to it", "sent Authorization: [redacted] to it"),
    ("invalid token: abcdef123456", "invalid token: [redacted]"),
    ("--token=abc --x=y", "--token=[redacted] --x=y"),
    # looks
    (f"got {JWT} here", "got [redacted] here"),
    ("curl -H 'Authorization: Bearer sk_abcdefgh1'", "curl -H 'Authorization: [redacted]'"),
    ("AKIAIOSFODNN7EXAMPLE", "[redacted]"),
    ("ghp_0123456789abcdefghijklmnopqrstuvwxyz", "[redacted]"),
    ("xoxb-1234567890-abcdefghij", "[redacted]"),
    ("glsa_0123456789abcdefghijklmnopqrstuv_0123abcd", "[redacted]"),
    ("http://user:pass@host:4318/v1/traces", "http://[redacted]@host:4318/v1/traces"),
    ("GET /login?user=a&access_token=abc&x=1", "GET /login?user=a&access_token=[redacted]&x=1"),
    ("https://x.example/cb#access_token=abc&x=1", "https://x.example/cb#access_token=[redacted]&x=1"),
    ("to=https%3A%2F%2Fx%3Ftoken%3Dabc%26y%3D1", "to=https%3A%2F%2Fx%3Ftoken%3D[redacted]%26y%3D1"),
    ("obi:swordfish@tcp(db:3306)/obi", "[redacted]@tcp(db:3306)/obi"),
    # flags
    ("obi --password swordfish --port 80", "obi --password [redacted] --port 80"),
    ('["--password", "sword fish", "--port"]', '["--password", "[redacted]", "--port"]'),
    ('["--password","swordfish"]', '["--password","[redacted]"]'),
    ("curl --user obi:swordfish http://x", "curl --user [redacted] http://x"),
    ("curl -u obi:swordfish http://x", "curl -u [redacted] http://x"),
    ("obi --headers a=b,c=d --port 80", "obi --headers [redacted] --port 80"),
    # what somebody says
    ("ALTER USER obi WITH PASSWORD 'swordfish'", "ALTER USER obi WITH PASSWORD '[redacted]'"),
    ('the token is "sword fish", it says', 'the token is "[redacted]", it says'),
    ("login failed with password: swordfish", "login failed with password: [redacted]"),
    ("wrong token: swordfish", "wrong token: [redacted]"),
    ("dbPass: swordfish", "dbPass: [redacted]"),
    # what goes on to the end
    ("> Authorization: HMAC-X a b c", "> Authorization: [redacted]"),
    ("GET / Cookie: a=b; c=d", "GET / Cookie: [redacted]"),
    ("Annotations:  note: password: three small words", "Annotations:  note: password: [redacted]"),
    ("# password: swordfish", "# password: [redacted]"),
    # several lines in one string
    ('msg="headers:\\n  a: b\\n"', 'msg="headers:\\n  a: [redacted]\\n"'),
    ("\x1b[36mpassword\x1b[0m=swordfish x=1", "password=[redacted] x=1"),
    ("\x1b[36mtoken=\x1b[0mswordfish x=1", "token=[redacted] x=1"),
    ("pass\u200bword: swordfish, token: abc12345", "password: [redacted]"),
    ("b'headers:\\n  a: b\\n'", "b'headers:\\n  a: [redacted]\\n'"),
    ("a PRIVATE KEY: -----BEGIN EC PRIVATE KEY-----\\nMHc\\n-----END EC PRIVATE KEY-----", None),
]

KEPT = [
    "pod key: abcd1234 of the map",
    'time=2026-11-21T08:00:01.000Z level=INFO msg="instrumenting process" component=obi cmd=/app pid=12 type=go',
    "2026-11-21 08:11:01 (12.1ms[12.1ms]) HTTP 200 GET /api/x [10.0.0.1 as frontend:41]->[10.0.1.2 as checkout:8080]",
    "traceparent=[00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331[0000000000000000]-01]",
    'level=WARN msg="error getting token: connection refused" component=otlp',
    'level=DEBUG msg="secret not found" name=obi',
    "error: You must be logged in to the server (the server has asked for the client to provide credentials)",
    "serviceAccountToken:",
    "  expirationSeconds: 3607",
    "automountServiceAccountToken: true",
    "    resources: [pods, secrets, tokenreviews]",
    "NAME     READY   STATUS    RESTARTS   AGE",
    "image: ghcr.io/open-telemetry/opentelemetry-ebpf-instrumentation/ebpf-instrument@sha256:0123456789abcdef",
    "value: $(HOST_IP)",
    "OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector.observability:4318",
    "track_request_headers: true",
    "kubectl get pods -l app=obi",
    "basic authentication is used",
    "mail admin@example.com",
    "password: $(DB_PASSWORD)",
    "--token is denied: which server is asked is the operator's choice",
    "unknown flag: --password",
    "--user 1000:1000 --group 5",
    "user: obi:obi",
    'secrets "obi-token" not found',
    "bypass: on",
    "\x1b[36mlevel\x1b[0m=INFO token \u200bx",
    "the password is required",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "error getting token: EOF",
]

BLOCKS = [
    ("headers: # whose\n  x-team: abcd\nnext: x", "headers: [redacted]\n  x-team: [redacted]\nnext: x"),
    ("headers: !!map\n  x-team: abcd\nnext: x", "headers: [redacted]\n  x-team: [redacted]\nnext: x"),
    ("headers: {a: b,\n  x-team: abcd}\nnext: x", "headers: [redacted]\n  x-team: [redacted]\nnext: x"),
    ("{headers: {\n x-team: abcd}}\nnext: x", "{headers: {\n x-team: [redacted]\nnext: x"),
    ("tokens: [a,\n  abcd]\nnext: x", "tokens: [a,\n  abcd]\nnext: x"),
    ("token: [a,\n  abcd]\nnext: x", "token: [redacted]\n  [redacted]\nnext: x"),
    (
        "    Args:\n      --password\n      sword fish\n      -v\n",
        "    Args:\n      --password\n      [redacted]\n      -v\n",
    ),
    ("args:\n- --password\n- swordfish\n- -v\n", "args:\n- --password\n- [redacted]\n- -v\n"),
    ("- --password\n- --verbose\n- x\n", "- --password\n- --verbose\n- x\n"),
    ("- --password\n- |\n  sword\n  fish\n- x\n", "- --password\n- |\n  [redacted]\n- x\n"),
    ('"--password",\n"swordfish",\n"x"\n', '"--password",\n"[redacted]",\n"x"\n'),
    ("password: sword\n  fish\nnext: x\n", "password: [redacted]\n  [redacted]\nnext: x\n"),
    (
        "aGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8gaGVsbG8g\nYWJj\n-----END PRIVATE KEY-----\nafter\n",
        "[redacted]\n[redacted]\n-----END PRIVATE KEY-----\nafter\n",
    ),
    ("YWJj\n-----END RSA PRIVATE KEY-----\nafter\n", "[redacted]\n-----END RSA PRIVATE KEY-----\nafter\n"),
    ("running\nwaiting\n", "running\nwaiting\n"),
    ("running\n", "running\n"),
    (
        "- name: DB_PASSWORD\n  value: hunter2\n- name: A\n  value: b\n",
        "- name: DB_PASSWORD\n  value: [redacted]\n- name: A\n  value: b\n",
    ),
    ("- value: hunter2\n  name: DB_PASSWORD\n", "- value: [redacted]\n  name: DB_PASSWORD\n"),
    ("- name: T_TOKEN\n  valueFrom:\n    x: y\n", "- name: T_TOKEN\n  valueFrom:\n    x: y\n"),
    ('"name": "A_TOKEN",\n"value": "x"\n', '"name": "A_TOKEN",\n"value": "[redacted]"\n'),
    ("token: |\n  a\n\n  b\nnext: c\n", "token: |\n  [redacted]\nnext: c\n"),
    ("password: >-\n  a\n", "password: >-\n  [redacted]\n"),
    ("password:\n  hunter2\nx: y\n", "password:\n  [redacted]\nx: y\n"),
    ("serviceAccountToken:\n  path: token\n", "serviceAccountToken:\n  path: token\n"),
    ("headers:\n  a: b\n  c: 'd'\nx: y\n", "headers:\n  a: [redacted]\n  c: '[redacted]'\nx: y\n"),
    ("headers:\n- name: A\n  value: b\nx: y\n", "headers:\n- name: A\n  value: [redacted]\nx: y\n"),
    ("headers:\n  a: |\n    b\n  c: d\n", "headers:\n  a: |\n    [redacted]\n  c: [redacted]\n"),
    ('"headers": {\n  "a": "b"\n},\n"x": "y"\n', '"headers": {\n  "a": "[redacted]"\n},\n"x": "y"\n'),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nafter\n",
        "-----BEGIN RSA PRIVATE KEY-----[redacted]\n-----END RSA PRIVATE KEY-----\nafter\n",
    ),
    (
        "2026 -----BEGIN PRIVATE KEY-----\n2026 MIIE\n2026 a normal line, with words\n",
        "2026 -----BEGIN PRIVATE KEY-----[redacted]\n2026 a normal line, with words\n",
    ),
    (
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n",
    ),
    ("data:\n  a: eA==\nkind: Secret\n", "data:\n  a: [redacted]\nkind: Secret\n"),
    ("kind: Secret\ndata:\n  a: eA==\n", "kind: Secret\ndata:\n  a: [redacted]\n"),
    ("data:\n  a: b\nkind: ConfigMap\n", "data:\n  a: b\nkind: ConfigMap\n"),
    ("data:\n  a: b\n", "data:\n  a: b\n"),
    ("kind: Secret\nstringData:\n  a: |\n    x\n    y\n", "kind: Secret\nstringData:\n  a: |\n    [redacted]\n"),
    (
        "kind: Secret\ndata:\n  a: eA==\n---\nkind: ConfigMap\ndata:\n  a: b\n",
        "kind: Secret\ndata:\n  a: [redacted]\n---\nkind: ConfigMap\ndata:\n  a: b\n",
    ),
    (
        "items:\n- kind: Secret\n  data:\n    a: eA==\n- kind: ConfigMap\n  data:\n    a: b\n",
        "items:\n- kind: Secret\n  data:\n    a: [redacted]\n- kind: ConfigMap\n  data:\n    a: b\n",
    ),
]


@pytest.mark.parametrize(("line", "expected"), LINES, ids=[line[:40] for line, _ in LINES])
def test_the_value_goes_and_the_rest_of_the_line_stays(line: str, expected: str | None) -> None:
    got = REDACTOR.text(line)
    if expected is None:
        assert "MHc" not in got and "a: b" not in got and "[redacted]" in got
    else:
        assert got == expected


@pytest.mark.parametrize("line", KEPT)
def test_what_is_no_secret_stays_as_it_is(line: str) -> None:
    assert REDACTOR.text(line) == line


@pytest.mark.parametrize(("text", "expected"), BLOCKS, ids=[repr(text[:30]) for text, _ in BLOCKS])
def test_what_stands_below_a_secret_name_goes(text: str, expected: str) -> None:
    assert REDACTOR.text(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in [*LINES, *BLOCKS]])
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = REDACTOR.text(text)
    assert REDACTOR.text(once) == once


@pytest.mark.parametrize(("text", "expected"), BLOCKS, ids=[repr(text[:30]) for text, _ in BLOCKS])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_chunks_make_no_difference(text: str, expected: str, size: int) -> None:
    stream = REDACTOR.stream()
    data = text.encode()
    pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*pieces, stream.finish()]).decode() == expected


# Whole texts alone: what was printed before an alias cannot be taken back.
MEANT = [
    ("base: &h {x-team: abcd}\notel: {headers: *h}\n", 'base: &h {x-team: "[redacted]"}'),
    ("b: &b\n  x-team: abcd\n  name: q\nheaders:\n  <<: *b\n", "x-team: [redacted]"),
    ("x: &t abcd\nheaders:\n  Authorization: *t\n", 'x: "[redacted]"'),
    ("password: &p |\n  abcd\n  more\nx: *p\n", "x: *p"),
    ('"h\\x65aders": {x-team: abcd}\n', 'x-team: "[redacted]"'),
    (
        '{"\\u0068eaders": {"x-team": "abcd", "n": 1}}\n',
        '{"\\u0068eaders": {"x-team": "[redacted]", "n": "[redacted]"}}\n',
    ),
    ("? headers\n:\n  x-team: abcd\n", 'x-team: "[redacted]"'),
    ("? headers\n: x-team: abcd\n", 'x-team: "[redacted]"'),
    ("env:\n- &e {name: API_TOKEN, value: abcd}\n- *e\n", 'value: "[redacted]"'),
    ("&a a: &b [*b, abcd]\nheaders: *b\n", '"[redacted]"'),
    ("ports: &p [80, 443]\nmore: *p\n", "ports: &p [80, 443]\nmore: *p\n"),
    ("token: false\nheaders:\n  a: $(B)\n  b: null\n? x\n: y\n", "token: false\nheaders:\n  a: $(B)\n  b: null\n? x"),
    ("see *this* and *that\n", "see *this* and *that\n"),
    ("x: *nobody\nq: [\n", "x: *nobody\nq: [\n"),
]


@pytest.mark.parametrize(("text", "expected"), MEANT, ids=[repr(text[:30]) for text, _ in MEANT])
def test_yaml_is_read_for_what_its_lines_do_not_show(text: str, expected: str) -> None:
    made = REDACTOR.text(text)
    assert "abcd" not in made and expected.replace("[redacted]", "") in made.replace("[redacted]", "")
    assert REDACTOR.value({"data": {"obi.yml": text}}) == {"data": {"obi.yml": made}}
    assert REDACTOR.text(made) == made


@pytest.mark.parametrize(
    "text",
    [
        *("? " * 100_000, "x: *a\n" + "[" * 100_000, "a: *b\n" + "{a: " * 50_000, '\\"' * 100_000, '"\\x41' * 50_000),
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 5_000)) + "headers: *a4999\n",
    ],
    ids=["keys", "brackets", "braces", "quotes", "escapes", "aliases"],
)
def test_hostile_yaml_ends_neither_the_process_nor_the_day(text: str) -> None:
    assert REDACTOR.text(text)


WORDS = st.sampled_from(
    [
        *("name", "value", "password", "token:", "token=", "headers:", "data:", "kind: Secret", "---", "Bearer", JWT),
        *('"', "'", "{", "}", "[", "]", ",", ":", "=", " ", "  ", "\n", "\n  ", "- ", "|", "\\", '\\"', "\r\n"),
        *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "http://a:b@c/?token=d&", "abc", "12345", "é"),
        *("$(X)", "null", "[redacted]"),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=30).map("".join), st.integers(1, 20))
def test_any_text_redacts_the_same_in_chunks(text: str, size: int) -> None:
    stream = REDACTOR.stream()
    data = text.encode()
    pieces = [stream.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*pieces, stream.finish()]).decode() == REDACTOR.text(text)


JSON_KEYS = st.sampled_from(["name", "value", "password", "headers", "token", "data", "kind", "x", "args", "api-key"])


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(JSON_KEYS, inner, max_size=4)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["X_TOKEN", "password=abc", 'a: "b"', "token: |\n  x\n", "Secret", JWT, "http://u:p@h/", "\\"]),
    nested,
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@example({"value": "'", "password": ["token: |\n  x\n"], "headers": "'"}, None)
@given(st.dictionaries(JSON_KEYS, JSON_VALUES, max_size=5), st.sampled_from([None, 4]))
def test_json_read_as_text_stays_json(value: dict[str, Any], indent: int | None) -> None:
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators)
    json.loads(REDACTOR.text(text))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(JSON_KEYS, JSON_VALUES, max_size=5), st.sampled_from([None, 4]))
def test_objects_once_redacted_hold_nothing_more_to_redact(value: dict[str, Any], indent: int | None) -> None:
    once = REDACTOR.value(value)
    assert REDACTOR.value(once) == once


def test_a_long_line_is_not_held_back_whole_and_secrets_at_its_cuts_go() -> None:
    stream = REDACTOR.stream()
    item = b'{"password":"hunter2","user":"bob"},'
    out = longest = 0
    for _ in range(400):
        piece = stream.feed(item * 100)
        assert b"hunter2" not in piece
        out += len(piece)
        longest = max(longest, len(stream.feed(b"")))
    rest = stream.finish()
    assert b"hunter2" not in rest and len(rest) < 100_000
    assert out > 1_000_000 and longest == 0


def test_bytes_that_are_no_utf8_pass() -> None:
    assert REDACTOR.data(b"\xff\xfe token=abc \x80") == b"\xff\xfe token=[redacted] \x80"


def test_the_file_follows_its_schema() -> None:
    directory = shipped_policy()
    schema = json.loads((directory / "schema" / "redaction.schema.json").read_text())
    data = yaml.safe_load((directory / "redaction.yaml").read_text())
    jsonschema.Draft202012Validator(schema).validate(data)


def test_another_directory_may_hold_the_file(tmp_path: Path) -> None:
    text = (shipped_policy() / "redaction.yaml").read_text().replace('marker: "[redacted]"', 'marker: "[gone]"')
    (tmp_path / "redaction.yaml").write_text(text)
    assert Redactor.load(tmp_path).text("token=abc") == "token=[gone]"
