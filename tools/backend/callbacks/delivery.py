"""Sending the messages of the outbox: in order for each listener, and again until it accepts.

Theory of operation
-------------------
Each listener that has something to get has one coroutine, which ends with the last message. It
sends the oldest message, and nothing behind it, until the listener has accepted it or its time is
over; listeners know nothing of one another.

Only a whole answer of 2xx is acceptance. What breaks off, comes too late, redirects or refuses is
a failed try, and the message is sent again: a listener may get it twice, and the number in
`X-Message-Id` [ours] says so. Of an answer no more than its status is of interest; its body is read
up to a bound, for the connection's sake, and thrown away.

Redirects are not followed, cookies are not kept, and neither proxies nor credentials of this
machine's environment are used: a message goes where the listener was registered, or nowhere.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import httpx

from agent.runtime.wheel import Timer, TimerWheel
from tools.backend.callbacks import rows
from tools.backend.callbacks.listeners import Listeners
from tools.backend.callbacks.rows import MAX_ERROR, MESSAGE_TABLE, Key, Message
from tools.backend.campaigns.engine import Record
from tools.backend.campaigns.states import next_state
from tools.backend.errors import BackendError, StoreError
from tools.backend.store.writer import Writer
from tools.backend.timing import DAY, BackendTime

TIMEOUT = 10.0
"""Seconds for a whole try, from the name's lookup to the end of the answer; ours. Of the loop, for
a listener answers no sooner because a backend's time is scaled."""

FIRST_DELAY = 1.0
LONGEST_DELAY = 300.0
"""Seconds from a failed try to the next; doubled from one to the next. Ours."""

LIFE = DAY
"""Seconds after which a message that nobody accepts is dropped; ours."""

MAX_ANSWER = 64 << 10
"""Bytes of an answer that are read."""

MAX_IDLE = 20
IDLE = 30.0
"""Connections kept for the next message, and for how many seconds: below what servers allow."""

MACHINE = "callback"


class CertificatesRefused(BackendError):
    """The file of certificate authorities for callbacks cannot be used."""


def tls_context(authorities: Path | None) -> ssl.SSLContext:
    """Verifies listeners by the system's authorities and those of a PEM file. Raises
    CertificatesRefused."""
    context = ssl.create_default_context()
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError:
            raise CertificatesRefused(f"{authorities} holds no PEM certificates") from None
        except OSError as error:
            raise CertificatesRefused(f"cannot read {authorities}: {error.strerror}") from None
    return context


def sockets(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """The transport of real time. It has no limit of connections: those who answer slowly must not
    use up the ones of others, and a listener never has more than one."""
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE
    )
    return httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)


def delay_after(failures: int) -> float:
    """Seconds to wait after so many failed tries in a row, at least one."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 16))


async def send(transport: httpx.AsyncBaseTransport, url: str, number: int, body: bytes) -> str:
    """One try; returns why it failed, empty when the listener has accepted. The text holds nothing
    of the address but what a certificate names, and nothing that the listener has chosen."""
    request = httpx.Request(
        "POST",
        url,
        content=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "fotilla",
            "X-Message-Id": str(number),
        },
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            response = await transport.handle_async_request(request)
            try:
                size = 0
                assert isinstance(response.stream, httpx.AsyncByteStream)
                async for part in response.stream:
                    size += len(part)
                    if size > MAX_ANSWER:
                        break
            finally:
                await response.aclose()
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s"
    except Exception as error:  # whatever a transport may raise, the message waits on
        return _why(error)[:MAX_ERROR]
    if response.is_success:
        return ""
    return f"answered {response.status_code}"


def _why(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "cannot connect"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the answer is not HTTP, or not whole"
    if isinstance(error, httpx.NetworkError):
        return "the connection broke"
    return f"cannot send: {type(error).__name__}"


class Delivery:
    """Brings messages to listeners."""

    def __init__(
        self,
        writer: Writer,
        time: BackendTime,
        wheel: TimerWheel,
        listeners: Listeners,
        record: Record,
        make_transport: Callable[[], Awaitable[httpx.AsyncBaseTransport]],
    ) -> None:
        self._writer = writer
        self._time = time
        self._wheel = wheel
        self._listeners = listeners
        self._record = record
        self._make_transport = make_transport
        self._transport: httpx.AsyncBaseTransport | None = None
        self._couriers: dict[Key, _Courier] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.counts: Counter[str] = Counter()
        """Since the start: `delivered`, `dropped` and `failed` (tries)."""

    def add(self, messages: Iterable[Message]) -> None:
        """Send these behind what waits already."""
        for message in messages:
            courier = self._couriers.get(message.key)
            if courier is None:
                courier = self._couriers[message.key] = _Courier(self, message.key)
            courier.queue.append(message)
            if courier.task is None and not self._stopped:
                task = asyncio.get_running_loop().create_task(
                    courier.run(), name=f"callbacks of {message.account} v{message.version}"
                )
                courier.task = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def hurry(self, key: Key) -> None:
        """The listener has another address: what waits is tried there at once."""
        courier = self._couriers.get(key)
        if courier is not None:
            courier.wake.set()

    def remove(self, key: Key) -> None:
        """The listener is gone: send nothing any more, not even what is on its way."""
        courier = self._couriers.pop(key, None)
        if courier is not None:
            courier.queue.clear()
            if courier.task is not None:
                courier.task.cancel()

    def waiting(self) -> Iterator[Message]:
        """What is still to be delivered."""
        for courier in self._couriers.values():
            yield from courier.queue

    async def stop(self) -> None:
        """Send nothing any more; what waits stays in the store."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is not None:
            await self._transport.aclose()

    # -- for a courier ---

    async def pause(self, courier: _Courier, until: float) -> None:
        """Wait until an instant, or until somebody is in a hurry."""
        if until > self._time.now():
            courier.wake.clear()
            self._time.arm(self._wheel, courier.timer, until)
            try:
                await courier.wake.wait()
            finally:
                self._wheel.disarm(courier.timer)

    async def attempt(self, message: Message, url: str) -> str:
        """One try; returns why it failed, or nothing."""
        try:
            read = partial(rows.load_body, number=message.number)
            body = await self._writer.read(read)
        except StoreError:
            return "the message cannot be read from the store"
        transport = self._transport
        if transport is None:
            made = await self._make_transport()
            # Another courier may have been faster.
            transport = self._transport = self._transport or made
        return await send(transport, url, message.number, body.encode())

    def now(self) -> float:
        return self._time.now()

    def listens_at(self, key: Key) -> str:
        """The address of a listener."""
        listener = self._listeners.get(key)
        assert listener is not None, "a courier ends with its listener"
        return listener.url

    def failed(self, message: Message, error: str, due: float) -> None:
        """A try has failed; there will be another one."""
        self.counts["failed"] += 1
        message.error, message.due = error, due
        self._writer.submit_row(
            rows.RETRY_MESSAGE,
            {
                "b_number": message.number,
                "b_tries": message.tries,
                "b_due": due,
                "b_error": error,
            },
        )

    def delivered(self, message: Message) -> None:
        """The listener has accepted it. When the store does not learn it, it is sent once more
        after a restart."""
        self._finish(message, "accepted")
        self._writer.submit_row(
            rows.DELIVER_MESSAGE,
            {
                "b_number": message.number,
                "b_tries": message.tries,
                "b_finished": message.finished,
            },
        )

    def dropped(self, message: Message, error: str) -> None:
        """Its time is over."""
        message.error = error
        self._finish(message, "given up")
        self._writer.submit_row(
            rows.DROP_MESSAGE,
            {
                "b_number": message.number,
                "b_tries": message.tries,
                "b_finished": message.finished,
                "b_error": error,
            },
        )

    def _finish(self, message: Message, event: str) -> None:
        old = message.state
        message.state = next_state(MESSAGE_TABLE, old, event)
        message.finished = self._time.now()
        self.counts[message.state] += 1
        self._record(f"{MACHINE} {message.number}", MACHINE, old, message.state, event)


class _Courier:
    """The messages of one listener, and the coroutine that sends them."""

    __slots__ = ("delivery", "key", "queue", "task", "timer", "wake")

    def __init__(self, delivery: Delivery, key: Key) -> None:
        self.delivery = delivery
        self.key = key
        self.queue: deque[Message] = deque()
        self.task: asyncio.Task[None] | None = None
        self.wake = asyncio.Event()
        self.timer = Timer(lambda _now: self.wake.set())

    async def run(self) -> None:
        """Send the oldest message until it is done with, then the next one."""
        try:
            while self.queue:
                await self._bring(self.queue[0])
        finally:
            self.task = None

    async def _bring(self, message: Message) -> None:
        delivery = self.delivery
        failures = message.tries  # of a former run too
        url = delivery.listens_at(self.key)
        while True:
            await delivery.pause(self, message.due)
            former, url = url, delivery.listens_at(self.key)
            if url != former:
                failures = 0
            error = await delivery.attempt(message, url)
            message.tries += 1
            failures += 1
            now = delivery.now()
            if not error:
                self.queue.popleft()
                delivery.delivered(message)
                return
            if now >= message.created + LIFE:
                self._give_up(error, now)
                return
            # An address that changed meanwhile is tried at once.
            delay = delay_after(failures) if delivery.listens_at(self.key) == url else 0.0
            delivery.failed(message, error, min(now + delay, message.created + LIFE))

    def _give_up(self, error: str, now: float) -> None:
        """Drop the message that was tried, and what waited behind it for as long: the listener has
        just shown that it is not there."""
        while self.queue and now >= self.queue[0].created + LIFE:
            self.delivery.dropped(self.queue.popleft(), error)
