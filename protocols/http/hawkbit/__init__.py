"""Client of hawkBit's Direct Device Integration API (DDI), version 1.

Importing this package makes the protocol `hawkbit` known."""

from protocols.http.hawkbit.client import HawkbitClient
from protocols.http.hawkbit.persona import Persona, personas

__all__ = ["HawkbitClient", "Persona", "personas"]
