"""The faces that come with the project by their names, for programs that embed a backend."""

from __future__ import annotations

import abc

from tools.backend.faces.base import AsgiApp, DeviceFace
from tools.backend.faces.http import HttpFace
from tools.backend.faces.lwm2m import Lwm2mFace
from tools.backend.faces.omadm import OmadmFace


class NamedFaces(abc.ABC):
    """Part of `Backend`, which itself knows no protocol."""

    @property
    @abc.abstractmethod
    def faces(self) -> dict[str, DeviceFace]: ...

    @abc.abstractmethod
    def address(self, face: str) -> tuple[str, int] | None:
        """Where devices of a face come; None without a listener, as in virtual time."""

    @abc.abstractmethod
    def url(self, face: str) -> str:
        """What devices of a face are given as their server."""

    @property
    def lwm2m(self) -> Lwm2mFace:
        """The LwM2M server itself, for device management beside the campaigns."""
        face = self.faces[Lwm2mFace.name]
        assert isinstance(face, Lwm2mFace)
        return face

    @property
    def http(self) -> HttpFace:
        """The server of HTTP devices."""
        face = self.faces[HttpFace.name]
        assert isinstance(face, HttpFace)
        return face

    @property
    def omadm(self) -> OmadmFace:
        """The server of OMA-DM devices."""
        face = self.faces[OmadmFace.name]
        assert isinstance(face, OmadmFace)
        return face

    @property
    def device_app(self) -> AsgiApp:
        """The wire of HTTP devices as an ASGI application."""
        return self.http.app

    @property
    def omadm_app(self) -> AsgiApp:
        """The wire of OMA-DM devices as an ASGI application."""
        return self.omadm.app

    @property
    def coap_address(self) -> tuple[str, int]:
        return self.lwm2m.local

    @property
    def http_address(self) -> tuple[str, int] | None:
        return self.address(HttpFace.name)

    @property
    def http_url(self) -> str:
        """The base of the URLs that HTTP devices use."""
        return self.url(HttpFace.name)

    @property
    def omadm_url(self) -> str:
        """Where OMA-DM devices begin sessions."""
        return self.url(OmadmFace.name)
