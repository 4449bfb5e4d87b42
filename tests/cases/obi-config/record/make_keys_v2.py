#!/usr/bin/env python3
"""Makes ``policy/obi/keys-v2.json``: where each key of the v2 model was read, so that none stands there by guess.

``PUBLISHED`` are the keys of the project's extension schema, read page by page at the commit of its address. A key that
is in none of the lists stays with the reference that the model was first taken down from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
PROJECT = "https://github.com/open-telemetry/opentelemetry-ebpf-instrumentation"
GUIDES = f"{PROJECT}/blob/main/devdocs/config/version-2.0"
READ_AT = "0201817bbacd63e98d767f307fc4b027094b56d5"
SOURCES = {
    "schema": f"{PROJECT}/blob/{READ_AT}/devdocs/config/version-2.0/obi-extension.schema.json",
    "table": f"{GUIDES}/config-v2.md#compatibility-and-mapping-from-v1",
    "guide": f"{GUIDES}/migration.md",
    "declarative": "https://github.com/open-telemetry/opentelemetry-configuration (what of it OBI documents)",
    "reference": f"{GUIDES}/config-v2.md (as it stood when the model was taken down; not read again since)",
}
_SIGNALS = "enabled enabled.traces enabled.metrics filters filters.traces filters.metrics"
_ROUTES = "unmatched patterns ignored_patterns ignore_mode wildcard_char max_path_segment_cardinality"
_PROTOCOLS = ["http", "grpc", "sql", "redis", "kafka", "mongo", "couchbase", "dns", "gpu"]
# Keys below extensions.obi; a trailing * stands for one mapping of the author's own names.
PUBLISHED = [
    "version capture enrich correlation daemon",
    "capture.policy capture.rules capture.instrumentation capture.runtimes capture.network capture.limits",
    "capture.engine capture.safety capture.channels capture.telemetry",
    "capture.policy.default_action capture.policy.match_order",
    "capture.policy.poll_interval capture.policy.min_process_age",
    "capture.rules[].action capture.rules[].name",
    "capture.rules[].description capture.rules[].match capture.rules[].refine",
    "capture.rules[].match.process capture.rules[].match.kubernetes capture.rules[].match.process.exe_path_glob",
    "capture.rules[].match.process.exports_otlp capture.rules[].match.process.exports_otlp.port",
    "capture.rules[].match.process.exports_otlp.protocol capture.rules[].match.kubernetes.namespace_glob",
    "capture.rules[].refine.exports capture.rules[].refine.exports.traces capture.rules[].refine.exports.metrics",
    "capture.rules[].refine.http capture.rules[].refine.http.routes",
    "capture.limits.network_packets capture.limits.metric_span_names",
    "capture.engine.debug capture.engine.debug.bpf capture.engine.debug.protocol_print capture.engine.pid_filter",
    "capture.engine.pid_filter.disabled capture.engine.batching capture.engine.batching.wakeup_len",
    "capture.engine.batching.batch_length capture.engine.batching.batch_timeout capture.engine.propagation",
    "capture.engine.propagation.context_propagation capture.engine.propagation.override_bpfloop_enabled",
    "capture.engine.propagation.disable_black_box_cp capture.engine.traffic capture.engine.traffic.control_backend",
    "capture.engine.traffic.high_request_volume capture.engine.transactions capture.engine.transactions.max_duration",
    "capture.engine.bpf_filesystem capture.engine.bpf_filesystem.path capture.safety.enforce_system_capabilities",
    "capture.channels.buffer_len capture.channels.send_timeout capture.channels.panic_on_send_timeout",
    "capture.telemetry.traces capture.telemetry.traces.reporters_cache_len capture.telemetry.metrics",
    "capture.telemetry.metrics.ttl capture.telemetry.metrics.reporters_cache_len",
    "daemon.logging daemon.logging.format daemon.logging.debug_trace_output daemon.profiling daemon.profiling.port",
    "daemon.shutdown daemon.shutdown.timeout daemon.internal_metrics daemon.internal_metrics.exporter",
    "daemon.internal_metrics.prometheus",
    "daemon.internal_metrics.prometheus.port daemon.internal_metrics.prometheus.path",
    "daemon.internal_metrics.bpf daemon.internal_metrics.bpf.scrape_interval",
    "daemon.telemetry daemon.telemetry.metrics",
    "daemon.telemetry.metrics.prometheus daemon.telemetry.metrics.prometheus.allow_service_graph_self_references",
    "daemon.telemetry.metrics.prometheus.span_metrics_service_cache_size",
    "daemon.telemetry.metrics.prometheus.extra_resource_attributes",
    "daemon.telemetry.metrics.prometheus.extra_span_resource_attributes",
    *(f"capture.instrumentation.{name}" for name in _PROTOCOLS),
    *(f"capture.instrumentation.{name}.{key}" for name in _PROTOCOLS for key in _SIGNALS.split()),
    *(f"capture.instrumentation.{name}.filters.*.*.{key}" for name in _PROTOCOLS for key in ("match", "not_match")),
    "capture.instrumentation.http.track_request_headers capture.instrumentation.http.request_timeout",
    "capture.instrumentation.http.buffer_size capture.instrumentation.http.routes",
    "capture.instrumentation.http.routes.discovery capture.instrumentation.http.routes.discovery.timeout",
    "capture.instrumentation.http.routes.discovery.disabled_languages",
    "capture.instrumentation.http.routes.discovery.java",
    "capture.instrumentation.http.routes.discovery.java.delay capture.instrumentation.http.payload_extraction",
    "capture.instrumentation.http.payload_extraction.enabled capture.instrumentation.http.payload_extraction.sqlpp",
    "capture.instrumentation.http.payload_extraction.sqlpp.endpoint_patterns",
    "capture.instrumentation.sql.heuristic_detect",
    "capture.instrumentation.sql.mysql capture.instrumentation.sql.postgres",
    *(f"capture.instrumentation.sql.{name}.buffer_size" for name in ("mysql", "postgres")),
    *(f"capture.instrumentation.sql.{name}.prepared_statements_cache_size" for name in ("mysql", "postgres")),
    "capture.instrumentation.redis.db_cache capture.instrumentation.redis.db_cache.enabled",
    "capture.instrumentation.redis.db_cache.max_size capture.instrumentation.kafka.buffer_size",
    "capture.instrumentation.kafka.topic_uuid_cache_size capture.instrumentation.mongo.requests_cache_size",
    "capture.instrumentation.couchbase.db_cache_size capture.instrumentation.dns.request_timeout",
    "capture.instrumentation.gpu.enabled_mode capture.runtimes.go capture.runtimes.nodejs capture.runtimes.java",
    *(f"capture.runtimes.{name}.{key}" for name in ("go", "nodejs", "java") for key in ("enabled", "filter")),
    "capture.runtimes.java.debug",
    "capture.runtimes.java.debug.enabled capture.runtimes.java.debug.bytecode_instrumentation",
    "capture.runtimes.java.attach_timeout capture.network.capture capture.network.capture.enabled",
    "capture.network.capture.source capture.network.capture.filters capture.network.capture.filters.traces",
    "capture.network.capture.filters.metrics enrich.enrichers enrich.enrichers.kubernetes enrich.service_name",
    "enrich.enrichers.kubernetes.mode enrich.attributes correlation.log_trace_annotation",
    *(f"correlation.log_trace_annotation.{key}" for key in ("enabled", "filter", "cache", "async_writer")),
    "correlation.log_trace_annotation.cache.ttl correlation.log_trace_annotation.cache.size",
    "correlation.log_trace_annotation.async_writer.workers correlation.log_trace_annotation.async_writer.channel_len",
]
# What the migration guide names besides.
GUIDED = [
    *(f"capture.instrumentation.http.routes.{way}" for way in ("incoming", "outgoing")),
    *(
        f"capture.instrumentation.http.routes.{way}.{key}"
        for way in ("incoming", "outgoing")
        for key in _ROUTES.split()
    ),
    *(f"capture.rules[].refine.http.routes.{way}" for way in ("incoming", "outgoing")),
    "capture.instrumentation.http.enabled.body_size_metrics capture.rules[].match.process.language_glob",
]


def main() -> None:
    model = json.loads((ROOT / "policy/obi/config-v2.json").read_text("utf-8"))
    moves = json.loads((ROOT / "policy/obi/moves.json").read_text("utf-8"))
    targets = {*moves["moves"].values(), *(target for several in moves["copies"].values() for target in several)}
    moved = {target.replace("~.", "", 1) for target in targets if target.startswith("~.")}
    published = [key for line in PUBLISHED for key in line.split()]
    guided = [key for line in GUIDED for key in line.split()]
    keys: dict[str, list[str]] = {}
    for key in _keys(model):
        if not key.startswith("extensions"):
            keys[key] = ["declarative"]
            continue
        below = key.removeprefix("extensions.obi").removeprefix(".")
        found = ["schema"] if not below or key == "extensions" or _among(below, published) else []
        found += ["table"] if any(target == below or target.startswith(f"{below}.") for target in moved) else []
        found += ["guide"] if _among(below, guided) else []
        keys[key] = found or ["reference"]
    about = "Made by tests/cases/obi-config/record/make_keys_v2.py: each key of config-v2.json and where it was read."
    lines = ["{", f' "about": {json.dumps(about)},', ' "sources": {']
    lines += [",\n".join(f"  {json.dumps(name)}: {json.dumps(address)}" for name, address in SOURCES.items()), " },"]
    lines += [
        ' "keys": {',
        ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(keys.items())),
        " }",
        "}",
    ]
    (ROOT / "policy/obi/keys-v2.json").write_text("\n".join([*lines, ""]), "utf-8")
    counts = {name: sum(name in sources for sources in keys.values()) for name in SOURCES}
    print(f"{len(keys)} keys: {counts}")


def _among(key: str, known: list[str]) -> bool:
    return any(key == each or ("*" in each and fnmatchcase(key, each.replace("[]", "[[]]"))) for each in known)


def _keys(model: dict[str, Any]) -> Iterator[str]:
    def below(name: str, prefix: str, above: tuple[str, ...]) -> Iterator[str]:
        for key, kind in model["shapes"][name].items():
            path, inner = prefix + key, kind
            yield path
            while inner.startswith(("list ", "map ")):
                path += "[]" if inner.startswith("list ") else ".*"
                inner = inner.split(" ", 1)[1]
            if inner.startswith("@") and inner[1:] not in above:
                yield from below(inner[1:], f"{path}.", (*above, inner[1:]))

    yield from below(model["root"], "", ())


if __name__ == "__main__":
    main()
