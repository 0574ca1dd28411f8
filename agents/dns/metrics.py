"""Prometheus metrics of DNS under the names that CoreDNS has for them. Loaded when somebody asks; pure."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

from agents.dns import wire
from agents.dns.tally import Histogram, Tally

SERVER = {"server": "dns://:53"}
ZONE = {**SERVER, "zone": ".", "view": ""}
CACHE = {**SERVER, "zones": ".", "view": ""}
_RCODES = {16: "BADVERS"}


def families(tally: Tally, *, cached: tuple[int, int], evictions: int) -> Iterator[Metric]:
    """``cached``: answers with records, and denials, that are remembered; ``evictions``: those that made room."""
    build = GaugeMetricFamily("coredns_build_info", "A metric with a constant '1' value labeled by version.",
                              labels=["version"])  # fmt: skip
    build.add_metric([f"orca-{importlib.metadata.version('orca')}"], 1)
    yield build
    yield from _of_questions(tally)
    yield from _of_answers(tally)
    entries = _gauge("coredns_cache_entries", "The number of elements in the cache.")
    for kind, count in zip(("success", "denial"), cached, strict=True):
        entries.add_sample("coredns_cache_entries", {**CACHE, "type": kind}, count)
    yield entries
    hits = [({**CACHE, "type": kind}, tally.cache_hits[kind]) for kind in ("success", "denial")]
    yield _counter("coredns_cache_hits", "The count of cache hits.", hits)
    asked = tally.cache_misses + tally.cache_hits.total()
    yield _counter("coredns_cache_misses", "The count of cache misses.", [(CACHE, tally.cache_misses)])
    yield _counter("coredns_cache_requests", "The count of cache requests.", [(CACHE, asked)])
    gone = [({**CACHE, "type": "success"}, evictions)]
    yield _counter("coredns_cache_evictions", "The count of cache evictions.", gone)
    yield from _of_forwarding(tally)


class Page:
    """The text format, for whoever serves it."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> list[Metric]:
        """As of a registry."""
        return self._found

    def text(self) -> bytes:
        return generate_latest(self)  # type: ignore[arg-type]  # all that it needs of a registry


def _of_questions(tally: Tally) -> Iterator[Metric]:
    counts: dict[tuple[str, str, str], int] = {}
    for (proto, family, kind), count in tally.requests.items():
        key = (proto, family, wire.KINDS.get(kind, "other"))
        counts[key] = counts.get(key, 0) + count
    yield _counter(
        "coredns_dns_requests",
        "Counter of DNS requests made per zone, protocol and family.",
        [({**ZONE, "proto": p, "family": f, "type": t}, count) for (p, f, t), count in counts.items()],
    )
    yield _counter("coredns_dns_do_requests", "Counter of DNS requests with DO bit set per zone.",
                   [({**SERVER, "zone": "."}, tally.dnssec)])  # fmt: skip
    yield _histograms(
        "coredns_dns_request_duration_seconds",
        "Histogram of the time (in seconds) each request took per zone.",
        {(): tally.seconds},
        (),
        ZONE,
    )
    yield _histograms(
        "coredns_dns_request_size_bytes",
        "Size of the EDNS0 UDP buffer in bytes (64K for TCP) per zone and protocol.",
        {(proto,): sizes for proto, sizes in tally.request_sizes.items()},
        ("proto",),
        ZONE,
    )


def _of_answers(tally: Tally) -> Iterator[Metric]:
    responses = [
        ({**ZONE, "rcode": _rcode(rcode), "plugin": plugin}, count)
        for (plugin, rcode), count in tally.responses.items()
    ]
    yield _counter("coredns_dns_responses", "Counter of response status codes.", responses)
    yield _histograms(
        "coredns_dns_response_size_bytes",
        "Size of the returned response in bytes.",
        {(proto,): sizes for proto, sizes in tally.response_sizes.items()},
        ("proto",),
        ZONE,
    )


def _of_forwarding(tally: Tally) -> Iterator[Metric]:
    yield _histograms(
        "coredns_proxy_request_duration_seconds",
        "Histogram of the time each request took.",
        tally.upstream_seconds,
        ("to", "rcode"),
        {"proxy_name": "forward"},
    )
    yield _counter(
        "coredns_proxy_healthcheck_failures",
        "Counter of the number of failed healthchecks.",
        [({"proxy_name": "forward", "to": to}, count) for to, count in tally.upstream_down.items()],
    )
    text = "Counter of the number of complete failures of the healthchecks."
    yield _counter("coredns_forward_healthcheck_broken", text, [({}, tally.all_down)])
    text = "Counter of the number of queries rejected because the concurrent queries were at maximum."
    yield _counter("coredns_forward_max_concurrent_rejects", text, [({}, tally.too_many)])


def _rcode(rcode: int) -> str:
    return wire.RCODES[rcode] if rcode < len(wire.RCODES) else _RCODES.get(rcode, str(rcode))


def _counter(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Metric:
    made = CounterMetricFamily(name, text)
    for labels, value in samples:
        made.add_sample(f"{name}_total", dict(labels), value)
    return made


def _gauge(name: str, text: str) -> Metric:
    return GaugeMetricFamily(name, text)


def _histograms(
    name: str,
    text: str,
    values: Mapping[Any, Histogram],
    labels: tuple[str, ...],
    common: Mapping[str, str],
) -> Metric:
    made = HistogramMetricFamily(name, text, labels=[*common, *labels])
    for key, histogram in values.items():
        counted, buckets = 0, []
        for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
            counted += count
            buckets.append((f"{bound:g}", counted))
        buckets.append(("+Inf", counted + histogram.counts[-1]))
        made.add_metric([*common.values(), *key], buckets, histogram.total)
    return made
