"""The page of one backend: what it samples, what it feeds, what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from tools.backend.page.campaign_views import CampaignViews
from tools.backend.page.device_views import DeviceViews
from tools.backend.page.feed import Feed
from tools.backend.page.network_views import callbacks, cells
from tools.backend.page.sampler import StateSampler

if TYPE_CHECKING:
    from tools.backend.backend import Backend


class Page:
    """Made with the backend; `start` when the engine is loaded, `stop` before the listeners."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

        def now() -> float:
            return backend.time.now()

        self.sampler = StateSampler(now)
        self.campaigns = CampaignViews(backend, self.sampler)
        self.devices = DeviceViews(backend, self.campaigns)
        self.feed = Feed(
            now,
            self.campaigns.event,
            {"cells": lambda: cells(backend), "callbacks": lambda: callbacks(backend)},
        )

    def load(self, connection: Connection) -> None:
        """Read what a former run left, after the engine has."""
        book = self._backend.engine.book
        alive = {
            campaign.id: campaign
            for campaign in book.campaigns.values()
            if not campaign.final or campaign.active
        }
        # Those that wait in the network may begin again when their campaign is over.
        alive.update((item.campaign.id, item.campaign) for item in book.queued.values())
        self.sampler.load(connection, alive.values())

    def start(self) -> None:
        """Look at the engine from now on."""
        backend = self._backend
        self.sampler.start(backend.writer)
        backend.engine.observers += [self.sampler, self.feed]
        backend.operator.on_attach.append(lambda attachment: self._moved(attachment.device_id))
        backend.operator.on_detach.append(self._moved)

    def _moved(self, device_id: str) -> None:
        """A device is in another place of the operator's network."""
        device = self._backend.inventory.identified(device_id)
        if device is not None:
            self.feed.device_changed(device.name)

    def forget(self, campaign: str) -> None:
        """A campaign is not there any more."""
        self.sampler.forget(campaign)
        self.feed.campaign_removed(campaign)

    def stop(self) -> None:
        """End the feeds, which otherwise would keep the listener open."""
        self.feed.stop()
