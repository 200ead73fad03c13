"""Writes docs/state-machines.md from the transition tables: `python -m tools.docs FILE`."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from agent import device, update
from protocols.http import poller
from protocols.http.checkin import tables as checkin
from protocols.lwm2m import registration
from protocols.mqtt import reconnect
from protocols.mqtt.aws import jobs
from protocols.omadm import session_tables as omadm
from tools.backend import firmware_sync
from tools.backend.callbacks import rows as callbacks
from tools.backend.campaigns import states
from tools.backend.faces import lwm2m_tables, omadm_tables
from tools.backend.operator_network import network

STATES = "tools/backend/campaigns/states.py"
OMADM = "tools/backend/faces/omadm_tables.py"

MACHINES: tuple[tuple[str, str, Mapping[Any, Mapping[Any, Any]]], ...] = (
    ("Update engine", "agent/update.py", update.TRANSITIONS),
    ("Device", "agent/device.py", device.TRANSITIONS),
    ("LwM2M registration", "protocols/lwm2m/registration.py", registration.TRANSITIONS),
    ("Check-in over HTTP", "protocols/http/poller.py", poller.TRANSITIONS),
    (
        "Campaign on an HTTP device",
        "protocols/http/checkin/tables.py",
        checkin.TRANSITIONS,
    ),
    ("MQTT connection", "protocols/mqtt/reconnect.py", reconnect.TRANSITIONS),
    ("AWS IoT job session", "protocols/mqtt/aws/jobs.py", jobs.TRANSITIONS),
    ("OMA-DM session", "protocols/omadm/session_tables.py", omadm.TRANSITIONS),
    ("Backend: campaign of v3", STATES, states.CAMPAIGN_TABLE),
    ("Backend: device in a campaign of v3", STATES, states.DEVICE_TABLE),
    ("Backend: campaign of v2", STATES, states.CAMPAIGN_TABLE_V2),
    ("Backend: device in a campaign of v2", STATES, states.DEVICE_TABLE_V2),
    ("Backend: campaign of v1", STATES, states.CAMPAIGN_TABLE_V1),
    ("Backend: device in a campaign of v1", STATES, states.DEVICE_TABLE_V1),
    ("Backend: attempt", STATES, states.POSITION_TABLE),
    ("Backend: LwM2M device", "tools/backend/faces/lwm2m_tables.py", lwm2m_tables.STAGES),
    ("Backend: OMA-DM session", OMADM, omadm_tables.SESSION_TABLE),
    ("Backend: OMA-DM job", OMADM, omadm_tables.JOB_TABLE),
    ("Backend: OMA-DM job of a file", OMADM, omadm_tables.COMPONENT_TABLE),
    (
        "Backend: short message",
        "tools/backend/operator_network/network.py",
        network.SHORT_MESSAGE_TABLE,
    ),
    ("Backend: callback message", "tools/backend/callbacks/rows.py", callbacks.MESSAGE_TABLE),
    (
        "Backend: request for a firmware version",
        "tools/backend/firmware_sync.py",
        firmware_sync.SYNC_TABLE,
    ),
)


def diagram(table: Mapping[Any, Mapping[Any, Any]]) -> str:
    """A Mermaid state diagram of one table; events with the same effect share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, cells in table.items():
        arrows: dict[Hashable, list[str]] = {}
        for event, target in cells.items():
            arrows.setdefault(target, []).append(_text(event))
        for target, events in arrows.items():
            lines.append(f"    {_text(state)} --> {_text(target)}: {' / '.join(events)}")
    return "\n".join([*lines, "```"])


def document() -> str:
    """The whole page."""
    parts = ["# State machines", "", "Made from the tables by `python -m tools.docs`.", ""]
    for title, source, table in MACHINES:
        parts += [f"## {title}", "", f"`{source}`", "", diagram(table), ""]
    return "\n".join(parts)


def _text(item: Hashable) -> str:
    if isinstance(item, Enum):
        return item.value if isinstance(item.value, str) else item.name
    return str(item)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
