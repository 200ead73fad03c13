"""The ground that a shard of devices stands on: time, timers, network, randomness, journal."""

from agent.runtime.clock import Clock, LoopClock, VirtualLoop, run_virtual
from agent.runtime.journal import Journal, Record, Ring
from agent.runtime.metrics import Histogram, Metrics
from agent.runtime.network import (
    Address,
    BindError,
    DatagramNetwork,
    DatagramSocket,
    MemoryNetwork,
    UdpNetwork,
)
from agent.runtime.random import DeviceRandom
from agent.runtime.wheel import Timer, TimerWheel

__all__ = [
    "Address",
    "BindError",
    "Clock",
    "DatagramNetwork",
    "DatagramSocket",
    "DeviceRandom",
    "Histogram",
    "Journal",
    "LoopClock",
    "MemoryNetwork",
    "Metrics",
    "Record",
    "Ring",
    "Timer",
    "TimerWheel",
    "UdpNetwork",
    "VirtualLoop",
    "run_virtual",
]
