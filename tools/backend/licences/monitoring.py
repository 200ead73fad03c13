"""Whose reachability the operator network reports: monitoring begins with the licence and ends with
its removal; devices that need none are monitored while a campaign has them [documented].

Who has a licence is told to the network, which keeps a set of them; it is made anew at a start.
Whether a campaign has a device is asked for when something happens to one that is not in there, so
nothing is kept of that, and nothing can be left behind. Ours is where the public pages are silent:

- An account that is billed in both ways needs no licences, but a device that has one is monitored
  for as long as it has.
- A campaign has a device from its acceptance to the end of the campaign, or of what the device does
  in it or waits for in the network; not when it was rejected or cancelled. The version of the API
  makes no difference.
- A campaign that adds devices by itself has those that could join it, as long as it does that.
- When monitoring begins with a device that is attached, that is reported there and then.

Only the network monitors. What comes to a device's own server, a registration or a check-in, is
heard whether or not there is a licence.
"""

from __future__ import annotations

from typing import Protocol

from tools.backend.inventory import Device
from tools.backend.licences.service import Licences


class Network(Protocol):
    """What monitoring asks of the operator network."""

    def monitor(self, device_id: str) -> None:
        """Report on a device from now on."""

    def unmonitor(self, device_id: str) -> None:
        """Report on it no more, but for what a campaign wants to know."""


class Monitoring:
    """Tells the network of licences; a `Watcher` of them."""

    def __init__(self, licences: Licences, network: Network) -> None:
        self._licences = licences
        self._network = network
        licences.watchers.append(self)

    def start(self) -> None:
        """Take up what a former run monitored. Before anybody listens to the network: it reports
        changes from then on, and how things are is asked for."""
        for device_id in self._licences.holders():
            self._network.monitor(device_id)

    def licence_assigned(self, device: Device) -> None:
        """The device has a licence."""
        self._network.monitor(device.device_id)

    def licence_released(self, device: Device) -> None:
        """The device has none any more."""
        self._network.unmonitor(device.device_id)
