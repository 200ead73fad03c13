"""The LwM2M 1.1 client: registration, device management, observation, Object 5."""

from protocols.lwm2m.client import Lwm2mClient
from protocols.lwm2m.registration import RegistrationTuning

__all__ = ["Lwm2mClient", "RegistrationTuning"]
