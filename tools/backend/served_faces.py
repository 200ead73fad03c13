"""The device-facing servers of a backend, with their listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.runtime.runtime import Runtime
from tools.backend.config import Listen
from tools.backend.errors import ListenerRefused
from tools.backend.faces.base import DeviceFace, FaceContext, ListenerSpec
from tools.backend.faces.known import known_faces
from tools.backend.listener import AsgiListener

ANYWHERE = Listen()


def authority(address: tuple[str, int]) -> str:
    """An address as a URL writes it (RFC 3986 section 3.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServedFaces:
    """Every known face and where its devices come. `make`, `start`, `open` when all have started,
    `listen` when they have resumed; `close` and `stop`."""

    def __init__(self, runtime: Runtime, listen: Mapping[str, Listen]) -> None:
        self.faces: dict[str, DeviceFace] = {}
        self._runtime = runtime
        self._listen = listen
        self._listeners: dict[str, AsgiListener] = {}

    def make(self, context: Callable[[tuple[str, int]], FaceContext]) -> None:
        """Make the faces. `context` is asked for what a face is given, with its address. Raises
        ListenerRefused."""
        for name, maker in known_faces().items():
            bind = self._where(maker.listener).bind
            face = self.faces[name] = maker(context(bind or ("", 0)))
            if bind is None and face.app is None:
                title = maker.listener.title
                raise ListenerRefused(f"{title} listener: it cannot be served in-process only")

    async def start(self) -> None:
        for face in self.faces.values():
            await face.start()

    def open(self) -> None:
        """Raises ListenerRefused."""
        for face in self.faces.values():
            face.open()

    async def listen(self) -> None:
        """Serve the applications of the faces that have one. Raises ListenerRefused."""
        if self._runtime.clock.virtual:
            return
        for name, face in self.faces.items():
            where = self._where(face.listener)
            if face.app is None or where.bind is None:
                continue
            listener = AsgiListener(face.app, where.bind, face.listener.title, where.tls)
            await listener.start()
            self._listeners[name] = listener

    async def close(self) -> None:
        """Close the listeners of applications."""
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()

    async def stop(self) -> None:
        """Stop the faces, silently for the devices."""
        for face in self.faces.values():
            await face.stop()

    def address(self, name: str) -> tuple[str, int] | None:
        """Where devices of a face come; None without a listener, as in virtual time."""
        face = self.faces[name]
        if face.app is None:
            return face.local
        listener = self._listeners.get(name)
        return None if listener is None else listener.local

    def url(self, name: str) -> str:
        """What devices of a face are given as their server; without a listener a name that stands
        for the in-process application."""
        spec = self.faces[name].listener
        address = self.address(name)
        host = f"{spec.name}.invalid" if address is None else authority(address)
        return spec.url(host, secure=self._where(spec).tls is not None)

    def _where(self, spec: ListenerSpec) -> Listen:
        return self._listen.get(spec.name, ANYWHERE)
