"""Real brokers: `MqttTransport` over aiomqtt.

aiomqtt brings connect, CONNACK, TLS, the event loop's readers and writers, and the goodbye; paho
beneath it the packets. Three of aiomqtt's habits cost a fleet too much, and are replaced here, in
the one subclass that knows its insides (pinned by tests/interop/test_mosquitto.py):

* a task per message and one per idle connection: messages go straight to the listener, and one
  handle of the loop looks after the keep-alive of all connections. So a connected device owns no
  task; only connecting and saying goodbye are told as coroutines;
* the default executor, where paho connects with blocking calls: six threads on two cores, shared
  with everybody's name lookups. A transport has its own;
* packets of any announced length, up to 256 MiB: `MAX_PACKET` ends the connection.

A broker that is slow to accept holds one of `CONNECT_THREADS` for at most 5 s (paho's connect
timeout), for TCP and again for the TLS handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import aiomqtt
import aiomqtt.exceptions
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import LocalMisuse
from agent.runtime.mqtt import MqttCause, MqttListener, MqttSettings, MqttTransport
from protocols.http.tls import SslContexts
from protocols.mqtt.topics import check_filter, check_topic

if TYPE_CHECKING:
    from agent.runtime.runtime import Runtime

__all__ = ["AiomqttTransport", "transport_of"]

CONNECT_THREADS = 16
"""Connections that are being opened at the same time."""
CONNACK_SECONDS = 10.0
GOODBYE_SECONDS = 2.0
"""How long a DISCONNECT may take to leave before the connection is dropped."""
TEND_SECONDS = 1.0
"""How often keep-alives are looked after; a keep-alive is at least some seconds."""
MAX_PACKET = 1 << 20
"""Bytes. AWS IoT Core carries 128 KiB, ThingsBoard 64 KiB by default."""
CALLBACKS = (
    "on_connect",
    "on_disconnect",
    "on_message",
    "on_publish",
    "on_socket_close",
    "on_socket_open",
    "on_socket_register_write",
    "on_socket_unregister_write",
    "on_subscribe",
    "on_unsubscribe",
)
"""What aiomqtt sets."""
REFUSED = 0x80  # MQTT 3.1.1 section 3.9.3


def transport_of(runtime: Runtime) -> MqttTransport:
    """The runtime's MQTT transport; the first to ask makes one for real brokers.

    Raises :class:`~agent.errors.LocalMisuse` in virtual time, where nothing real can be reached:
    put a :class:`~protocols.mqtt.broker.MemoryBroker` into ``runtime.mqtt`` first."""
    transport = runtime.mqtt
    if transport is None:
        if runtime.clock.virtual:
            raise LocalMisuse("no real broker in virtual time: runtime.mqtt needs a MemoryBroker")
        transport = runtime.mqtt = AiomqttTransport()
    return transport


class AiomqttTransport:
    """All MQTT connections of one worker to real brokers; made while its event loop runs."""

    __slots__ = ("_connections", "_executor", "_stories", "_tending", "contexts", "loop")

    def __init__(self) -> None:
        self.contexts = SslContexts()
        self.loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._stories: set[asyncio.Task[None]] = set()
        self._executor: ThreadPoolExecutor | None = None
        self._tending: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Connections that are open or being opened or closed."""
        return len(self._connections)

    def open(self, settings: MqttSettings, listener: MqttListener) -> _Connection:
        """Raises :class:`~protocols.http.tls.BadCredential` for certificates or a key that TLS
        cannot use: no attempt would ever succeed."""
        context = _context(settings, self.contexts) if settings.tls else None
        if self._executor is None:
            self._executor = ThreadPoolExecutor(CONNECT_THREADS, "mqtt-connect")
        connection = _Connection(self, listener)
        self._connections.add(connection)
        if self._tending is None:
            self._tending = self.loop.call_later(TEND_SECONDS, self._tend)
        self.tell(connection.connect(settings, context, self._executor))
        return connection

    async def close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        if self._executor is not None:
            # Who waits for a thread need not wait for those before it to time out.
            self._executor.shutdown(wait=False, cancel_futures=True)
        while self._stories:
            await asyncio.wait(self._stories)
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        self._executor = None

    def tell(self, story: Coroutine[None, None, None]) -> None:
        """Run a coroutine that ends by itself."""
        task = self.loop.create_task(story)
        self._stories.add(task)
        task.add_done_callback(self._stories.discard)

    def gone(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def _tend(self) -> None:
        self._tending = None
        for connection in list(self._connections):
            connection.tend()
        if self._connections:
            self._tending = self.loop.call_later(TEND_SECONDS, self._tend)


class _Socket(ssl.SSLSocket):
    """A TLS socket that is closed when its handshake fails: paho leaves that to the collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _context(settings: MqttSettings, contexts: SslContexts) -> ssl.SSLContext:
    # paho reads and writes the socket itself, through OpenSSL with SSL_MODE_RELEASE_BUFFERS (which
    # Python sets): an idle connection holds no record buffers, and asyncio's do not exist here.
    context = contexts.client(settings.credential, verify=settings.verify)
    context.sslsocket_class = _Socket
    return context


class _Untrusted(aiomqtt.MqttError):
    """One side did not believe the other's certificate."""


def _tls_failure(error: ssl.SSLError, where: str) -> aiomqtt.MqttError:
    """What OpenSSL says, as a sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "it is not for this host"
        return _Untrusted(f"{where}: the broker's certificate is not trusted: {reason}")
    reason = (error.reason or "broken off").lower().replace("_", " ")
    if "alert" in reason:
        return _Untrusted(f"{where}: the broker refused our TLS handshake: {reason}")
    return aiomqtt.MqttError(f"{where}: no TLS session: {reason}")


class _Client(aiomqtt.Client):
    """aiomqtt's client without its tasks; what it hears goes to `owner`."""

    def __init__(
        self, owner: _Connection, settings: MqttSettings, context: ssl.SSLContext | None
    ) -> None:
        self._owner = owner
        self._drained: asyncio.Future[None] | None = None
        self._where = f"{settings.host}:{settings.port}"
        will = settings.will
        super().__init__(
            settings.host,
            settings.port,
            username=settings.username,
            password=settings.password,
            identifier=settings.client_id,
            will=None
            if will is None
            else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            clean_session=settings.clean_session,
            keepalive=settings.keepalive,
            bind_address=settings.bind or "",
            timeout=CONNACK_SECONDS,
            tls_context=context,
        )
        # What goes wrong is told to the listener; a line for each device of a fleet helps nobody.
        self._client.disable_logger()

    # --- what the connection asks

    async def connect(self, executor: ThreadPoolExecutor) -> None:
        """The first half of `async with`, on the transport's own threads."""
        connecting = self._loop.run_in_executor(executor, self._client_connect)
        try:
            await connecting
        except ssl.SSLError as error:
            raise _tls_failure(error, self._where) from None
        except (OSError, ValueError) as error:
            raise aiomqtt.MqttError(str(error) or type(error).__name__) from None
        except asyncio.CancelledError:
            if not connecting.cancelled():
                raise
            raise aiomqtt.MqttError("closed before it was opened") from None
        await self._wait_for(self._connected, timeout=CONNACK_SECONDS)
        self._disconnected.add_done_callback(self._ended)

    async def goodbye(self) -> None:
        """The second half: everything that was published, then DISCONNECT, then the socket."""
        # paho closes behind its DISCONNECT, and acknowledgements that nobody read would then make
        # the kernel reset the connection, before the broker has read what came with them.
        if self._client._out_messages and not self._disconnected.done():
            self._drained = self._loop.create_future()
            await asyncio.wait(
                (self._drained, self._disconnected),
                timeout=GOODBYE_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        if not self._disconnected.done() and self._client.disconnect() == paho.MQTT_ERR_SUCCESS:
            await asyncio.wait((self._disconnected,), timeout=GOODBYE_SECONDS)
        self.drop()

    def drop(self) -> None:
        """Close the socket without a word to the broker. Not from inside a paho callback: paho
        would wait for itself."""
        self._client._sock_close()
        # aiomqtt's client and paho's hold each other; a fleet that reconnects cannot wait for the
        # garbage collector, least of all after gc.freeze().
        self._disconnected.remove_done_callback(self._ended)
        for callback in CALLBACKS:
            setattr(self._client, callback, None)

    def vanish(self) -> None:
        """From anywhere: nothing leaves any more, and the socket is closed soon."""
        sock = self._client.socket()
        if isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._loop.call_soon(self.drop)

    def tend(self) -> None:
        self._client.loop_misc()

    def _client_connect(self) -> None:
        # On one of the transport's threads, perhaps long after it was asked for.
        if self._owner.closing:
            raise ConnectionAbortedError("closed before it was opened")
        super()._client_connect()

    def publish_soon(self, topic: str, payload: bytes, qos: int, retain: bool) -> int | None:
        """The packet's number; None when it was dropped."""
        info = self._client.publish(topic, payload, qos, retain)
        return info.mid if info.rc == paho.MQTT_ERR_SUCCESS else None

    def subscribe_soon(self, filters: tuple[str, ...], qos: int) -> int | None:
        return self._client.subscribe([(topic_filter, qos) for topic_filter in filters])[1]

    # --- what paho calls, in the loop's thread but for `_on_socket_open`

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._owner.session_present = flags.session_present
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self._failed(aiomqtt.MqttError("closed by the broker before its CONNACK"), before=True)
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._owner.received(message)

    def _on_publish(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        self._owner.acknowledged(mid)
        drained = self._drained
        # paho forgets the message right after this call.
        if drained is not None and not drained.done() and len(client._out_messages) == 1:
            drained.set_result(None)

    def _on_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None = None,
    ) -> None:
        self._owner.granted(mid, [code.value for code in reason_codes])

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        # On the thread that connects.
        self._loop.call_soon_threadsafe(self._watch, sock)

    def _watch(self, sock: socket.socket) -> None:
        if self._client.socket() is sock and sock.fileno() >= 0:  # else closed meanwhile
            self._loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        client = self._client
        try:
            while True:
                client.loop_read()
                if client._in_packet["remaining_length"] > MAX_PACKET:
                    raise aiomqtt.MqttError(f"a packet of more than {MAX_PACKET} bytes")
                sock = client.socket()
                # TLS may have decrypted more than was read, which no selector sees.
                if not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                    return
        except Exception as error:  # whatever paho and the socket raise when a connection breaks
            self._failed(error)

    def _failed(self, error: Exception, *, before: bool = False) -> None:
        """The connection is broken; with `before` only if the CONNACK is still to come."""
        if not self._connected.done():
            self._connected.set_exception(error)
        elif not before and not self._disconnected.done():
            self._disconnected.set_exception(error)

    def _ended(self, disconnected: asyncio.Future[None]) -> None:
        error = disconnected.exception()
        self._owner.ended(str(error) if error is not None else "")


class _Connection:
    """One connection of one device."""

    __slots__ = ("_client", "_listener", "_pending", "_transport", "closing", "session_present")

    def __init__(self, transport: AiomqttTransport, listener: MqttListener) -> None:
        self._transport = transport
        self._listener: MqttListener | None = listener
        self._client: _Client | None = None
        """While it is connected."""
        self.closing = False
        self._pending: dict[int, Callable[[], None] | tuple[str, ...]] | None = None
        """What the broker has to answer, by packet number: who is called when a message was
        acknowledged, and the filters of a subscription."""
        self.session_present = False

    # --- MqttConnection

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        acknowledged: Callable[[], None] | None = None,
    ) -> None:
        check_topic(topic)
        if qos not in (0, 1):
            raise ValueError(f"QoS {qos}: 0 and 1 are there")
        if self._client is not None and not self.closing:
            mid = self._client.publish_soon(topic, payload, qos, retain)
            if qos and mid is not None and acknowledged is not None:
                self._expect(mid, acknowledged)

    def subscribe(self, *filters: str, qos: int = 1) -> None:
        for topic_filter in filters:
            check_filter(topic_filter)
        if self._client is not None and not self.closing and filters:
            mid = self._client.subscribe_soon(filters, qos)
            if mid is not None:
                self._expect(mid, filters)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if self._client is not None:
                self._transport.tell(self._leave(self._client))

    def abort(self) -> None:
        self._listener = None
        self.closing = True
        if self._client is not None:
            self._client.vanish()
            self._over(MqttCause.CLOSED, "")

    # --- told as stories

    async def connect(
        self,
        settings: MqttSettings,
        context: ssl.SSLContext | None,
        executor: ThreadPoolExecutor,
    ) -> None:
        try:
            client = _Client(self, settings, context)
        except ValueError as error:  # what paho finds wrong with a client id or a will
            self._over(MqttCause.UNREACHABLE, str(error))
            return
        try:
            await client.connect(executor)
        except aiomqtt.MqttError as error:
            client.drop()
            if self.closing:
                self._over(MqttCause.CLOSED, "")
            elif isinstance(error, _Untrusted):
                self._over(MqttCause.UNTRUSTED, str(error))
            elif isinstance(error, aiomqtt.exceptions.MqttConnectError):
                self._over(MqttCause.REFUSED, str(error))
            else:
                self._over(MqttCause.UNREACHABLE, str(error))
            return
        if self._listener is None:
            client.drop()
            self._over(MqttCause.CLOSED, "")
        elif self.closing:
            await self._leave(client)
        else:
            self._client = client
            self._tell(self._listener.connected, self.session_present)

    async def _leave(self, client: _Client) -> None:
        await client.goodbye()
        self._over(MqttCause.CLOSED, "")

    # --- what its client calls

    def received(self, message: paho.MQTTMessage) -> None:
        if self._listener is None or self.closing:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            raise aiomqtt.MqttError("a topic that is not UTF-8") from None  # section 1.5.3
        self._tell(self._listener.received, topic, bytes(message.payload), message.qos, message.dup)

    def acknowledged(self, mid: int) -> None:
        call = self._answered(mid)
        if callable(call) and self._listener is not None:
            self._tell(call)

    def granted(self, mid: int, codes: list[int]) -> None:
        filters = self._answered(mid)
        if isinstance(filters, tuple) and self._listener is not None:
            refused = [f for f, code in zip(filters, codes, strict=False) if code >= REFUSED]
            self._tell(self._listener.subscribed, tuple(refused))

    def ended(self, detail: str) -> None:
        """The connection broke, or its DISCONNECT left."""
        if self._client is not None and not self.closing:
            self._client.drop()
            self._over(MqttCause.LOST, detail)

    def tend(self) -> None:
        if self._client is not None:
            self._client.tend()

    # --- inside

    def _expect(self, mid: int, answer: Callable[[], None] | tuple[str, ...]) -> None:
        if self._pending is None:
            self._pending = {}
        self._pending[mid] = answer

    def _answered(self, mid: int) -> Callable[[], None] | tuple[str, ...] | None:
        pending = self._pending
        if pending is None:
            return None
        answer = pending.pop(mid, None)
        if not pending:
            self._pending = None
        return answer

    def _over(self, cause: MqttCause, detail: str) -> None:
        listener, self._listener = self._listener, None
        self._client = None
        self.closing = True
        self._pending = None
        self._transport.gone(self)
        if listener is not None:
            self._tell(listener.disconnected, cause, detail)

    def _tell(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # one device's defect must not cost another its packet
            context = {"message": "an MQTT listener failed", "exception": error}
            self._transport.loop.call_exception_handler(context)
