"""`/metrics` for Prometheus, read off the state of the backend when it is asked for.

Devices in campaigns are counted a part at a time, so that a hundred thousand of them hold up
nobody; the figures of one answer may therefore be some milliseconds apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tools.backend.admin.request_meter import BOUNDS, RequestFigures
from tools.backend.admin.token import AdminToken

if TYPE_CHECKING:
    from tools.backend.backend import Backend

T = TypeVar("T")

PART = 5_000
"""Devices that are counted before others have their turn: some 2 ms."""

OUTBOX_TOTALS = ("composed", "delivered", "dropped", "failed")
"""Of `Callbacks.counters`: what only ever grows."""


@dataclass(frozen=True, slots=True)
class Census:
    """What has to be counted."""

    campaigns: Counter[tuple[str, str]]
    """By kind and status."""
    members: Counter[tuple[str, str]]
    """Devices in campaigns, likewise."""
    devices: Counter[str]
    """Devices of the inventory by protocol."""


async def take_census(backend: Backend) -> Census:
    """Count, and let others have their turn in between."""
    campaigns: Counter[tuple[str, str]] = Counter()
    members: Counter[tuple[str, str]] = Counter()
    counted = 0
    for campaign in list(backend.engine.book.campaigns.values()):
        kind = campaign.kind.name
        campaigns[kind, campaign.status] += 1
        for part in _parts(list(campaign.members.values())):
            members.update((kind, member.status) for member in part)
            counted += len(part)
            if counted >= PART:
                counted = 0
                await asyncio.sleep(0)
    devices: Counter[str] = Counter()
    for some in _parts(list(backend.inventory.devices.values())):
        devices.update(device.protocol for device in some)
        await asyncio.sleep(0)
    return Census(campaigns, members, devices)


def _parts(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + PART] for start in range(0, len(items), PART))


class BackendCollector(Collector):
    """The state as metric families; made for one answer."""

    def __init__(self, backend: Backend, census: Census, requests: RequestFigures) -> None:
        self._backend = backend
        self._census = census
        self._requests = requests

    def collect(self) -> Iterable[Metric]:
        yield from self._campaigns()
        yield from self._store()
        yield from self._outbox()
        yield from self._network()
        yield from self._answers()
        yield from self._clock()

    def _campaigns(self) -> Iterator[Metric]:
        campaigns = GaugeMetricFamily(
            "fotilla_campaigns", "Campaigns by kind and status.", labels=("kind", "status")
        )
        for labels, count in sorted(self._census.campaigns.items()):
            campaigns.add_metric(labels, count)
        yield campaigns
        members = GaugeMetricFamily(
            "fotilla_campaign_devices",
            "Devices in campaigns by kind of the campaign and their own status.",
            labels=("kind", "status"),
        )
        for labels, count in sorted(self._census.members.items()):
            members.add_metric(labels, count)
        yield members

    def _store(self) -> Iterator[Metric]:
        writer = self._backend.writer
        yield CounterMetricFamily(
            "fotilla_store_commits", "Transactions of the store.", writer.commits
        )
        yield CounterMetricFamily(
            "fotilla_store_changes", "Changes in these transactions.", writer.changes
        )
        yield CounterMetricFamily(
            "fotilla_store_commit_seconds",
            "Time that transactions took, waiting for the writer's thread included.",
            writer.commit_seconds,
        )
        yield GaugeMetricFamily(
            "fotilla_store_queue", "Changes that wait for a transaction.", writer.queued
        )

    def _outbox(self) -> Iterator[Metric]:
        counters = self._backend.callbacks.counters()
        yield GaugeMetricFamily(
            "fotilla_callback_listeners", "Registered listeners.", counters["listeners"]
        )
        yield GaugeMetricFamily(
            "fotilla_callbacks_waiting", "Messages that wait for delivery.", counters["waiting"]
        )
        totals = CounterMetricFamily(
            "fotilla_callbacks",
            "Messages since the start: composed, delivered, dropped; and tries that failed.",
            labels=("state",),
        )
        for state in OUTBOX_TOTALS:
            totals.add_metric((state,), counters[state])
        yield totals

    def _network(self) -> Iterator[Metric]:
        backend = self._backend
        devices = GaugeMetricFamily(
            "fotilla_devices", "Devices of the inventory.", labels=("protocol",)
        )
        for protocol, count in sorted(self._census.devices.items()):
            devices.add_metric((protocol,), count)
        yield devices
        yield GaugeMetricFamily(
            "fotilla_attached_devices",
            "Devices attached to the operator network.",
            backend.operator.serving().total(),
        )
        sessions = GaugeMetricFamily(
            "fotilla_device_sessions",
            "Devices that are registered (LwM2M), have checked in lately (HTTP) or are in a "
            "session (OMA-DM).",
            labels=("face",),
        )
        for name, face in sorted(backend.faces.items()):
            sessions.add_metric((name,), len(face.identities()))
        yield sessions

    def _answers(self) -> Iterator[Metric]:
        durations = HistogramMetricFamily(
            "fotilla_http_request_duration_seconds",
            "Requests of customers (rest) and administrators (admin).",
            labels=("app", "method", "route", "code"),
        )
        for labels, figure in sorted(self._requests.items()):
            total, buckets = 0, []
            for bound, count in zip((*map(str, BOUNDS), "+Inf"), figure.counts, strict=True):
                total += count
                buckets.append((bound, total))
            durations.add_metric(labels, buckets, figure.seconds)
        yield durations

    def _clock(self) -> Iterator[Metric]:
        time = self._backend.time
        yield GaugeMetricFamily(
            "fotilla_clock_seconds", "The backend's own time, since the epoch.", time.now()
        )
        yield GaugeMetricFamily(
            "fotilla_clock_rate", "Seconds of it in a second of the machine.", time.rate
        )


def router(backend: Backend, guard: AdminToken, *, needs_token: bool) -> APIRouter:
    """The route `/metrics`."""
    routes = APIRouter()

    @routes.get("/metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        if needs_token:
            await guard.required(request)
        census = await take_census(backend)
        registry = CollectorRegistry(auto_describe=False)
        # With a fleet in virtual time too: what it says of the process decides nothing.
        ProcessCollector(registry=registry)
        registry.register(BackendCollector(backend, census, backend.requests))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return routes
