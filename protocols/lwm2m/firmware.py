"""Object 5 of one client: the package by push (Block1 on 5/0/0) and by pull (Block2 from 5/0/1).

No state of its own beyond the transfer that is under way: what an operation means is looked up in
:mod:`protocols.lwm2m.firmware_tables`, and every action is a call of the update engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.runtime.wheel import Timer
from agent.update import Outcome, State
from protocols.coap.blockwise import Transfer
from protocols.coap.endpoint import CoapEndpoint
from protocols.coap.errors import CoapUriError, RequestFailed
from protocols.coap.message import Message, response
from protocols.coap.numbers import Code, OptionNumber, code_text
from protocols.coap.options import Block, Options, encode_uint
from protocols.coap.uri import CoapUri, parse_uri
from protocols.lwm2m.codecs import CodecError, UnsupportedFormat
from protocols.lwm2m.firmware_tables import PUSH_ENDED, Action, Operation, answer
from protocols.lwm2m.package_stream import PackageStream, stream_for

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["SCHEMES", "FirmwareObject"]

# Resource 5/0/8 says the same: CoAP only, until DTLS, HTTP and TCP are there.
SCHEMES = ("coap",)

# What resets the object when it is written as the package (core appendix E.6); an empty one is
# what some servers send for it.
_RESETS = (b"\0", b"")
# The longest wrapping of a NUL byte is its base64 text, four bytes like the CBOR and TLV of it.
_LONGEST_RESET = 8


class FirmwareObject:
    """What the Firmware Update object does in one uptime of a device."""

    __slots__ = (
        "_device",
        "_endpoint",
        "_expected",
        "_replied",
        "_stream",
        "_timer",
        "_transfer",
        "_untouched",
    )

    def __init__(self, device: Device, endpoint: CoapEndpoint) -> None:
        self._device = device
        self._endpoint = endpoint
        self._expected = -1  # next byte of the body that a push must bring; -1: no push
        self._replied = 0.0
        self._stream: PackageStream | None = None
        self._timer: Timer | None = None
        self._transfer: Transfer | None = None
        self._untouched = False  # a resumed download that has not got a block yet

    def start(self) -> None:
        """Go on with a download that a reboot interrupted."""
        if self._device.engine.resumable:
            self._arm(0.0)

    def stop(self) -> None:
        if self._transfer is not None:
            self._transfer.cancel()
            self._transfer = None
        if self._timer is not None:
            self._device.runtime.wheel.disarm(self._timer)

    # -- push -----------------------------------------------------------------------------------

    def write_package(self, request: Message, now: float) -> Message:
        """A Write to 5/0/0, whole or one block of it."""
        block = request.options.block1
        engine = self._device.engine
        data = request.payload
        if (
            block is not None
            and block.more
            and block.number
            and engine.state is State.DOWNLOADING
            and block.offset == self._expected
            and len(data) == block.size
            and self._stream is None
            and request.options.echo is not None
        ):
            # Nearly every datagram of a campaign is this one cell of the table: DOWNLOADING,
            # PACKAGE_NEXT. Whatever is not plain about it goes the long way below.
            self._device.runtime.metrics.block.record(now - self._replied)
            self._replied = now
            if engine.receive(data):
                self._expected += len(data)
                return Message(Code.CONTINUE, b"", request.options.echo)
            return self._echo_ended(self._ended(), block)
        if block is None or (block.number == 0 and not block.more):
            operation = Operation.PACKAGE_WHOLE
            if _is_reset(request):
                operation = Operation.PACKAGE_NUL
        elif block.number == 0:
            operation = Operation.PACKAGE_FIRST
        else:
            expected = self._expected
            if engine.state is State.DOWNLOADING and block.offset != expected:
                if 0 <= block.offset == expected - len(data) and block.more:
                    return _echo(Code.CONTINUE, block)  # the same block again under a new id
                return _echo(Code.REQUEST_ENTITY_INCOMPLETE, block)
            operation = Operation.PACKAGE_NEXT if block.more else Operation.PACKAGE_LAST
            if engine.state is State.DOWNLOADING:
                self._device.runtime.metrics.block.record(now - self._replied)
        if block is not None and block.more and len(data) != block.size:
            return _echo(Code.BAD_REQUEST, block)
        code, action = answer(engine.state, operation)
        try:
            if action is Action.APPEND:
                if self._receive(data):
                    self._expected += len(data)
                else:
                    code = self._ended()
            elif action is Action.FINISH:
                code = self._finish(data, code)
            elif action is not Action.NOTHING:
                code = self._begin_push(request, action, code)
        except UnsupportedFormat:
            raise
        except CodecError:
            engine.fail(Outcome.UNSUPPORTED_PACKAGE, "the package's wrapping is wrong")
            code = self._ended()
            if code == Code.CHANGED:
                code = Code.BAD_REQUEST
        self._replied = now
        if block is None:
            return response(code)
        if code == Code.REQUEST_ENTITY_TOO_LARGE:
            return self._echo_ended(code, block)
        echo = request.options.echo
        if echo is None:
            echo = request.options.echo = Options.of((OptionNumber.BLOCK1, block.encode()))
        return response(code, echo)

    def _echo_ended(self, code: Code, block: Block) -> Message:
        """RFC 7959 section 2.9.3: a 4.13 says what would have been small enough."""
        if code != Code.REQUEST_ENTITY_TOO_LARGE:
            return _echo(code, block)
        limit = (OptionNumber.SIZE1, encode_uint(self._device.engine.capacity))
        return response(code, Options.of((OptionNumber.BLOCK1, block.encode()), limit))

    def _begin_push(self, request: Message, action: Action, code: Code) -> Code:
        engine = self._device.engine
        if action is Action.RESET:
            self.reset()
            return code
        options = request.options
        # An unsupported wrapping is refused before anything changes: UnsupportedFormat rises.
        stream = stream_for(options.content_format)
        if self._transfer is not None:
            self._transfer.cancel()
            self._transfer = None
        self._stream = stream
        size = options.size1 if stream is None else None
        if action is Action.WHOLE:
            size = len(request.payload) if stream is None else None
        if not engine.begin(total_size=size) or not self._receive(request.payload):
            return self._ended()
        self._expected = len(request.payload)
        if action is Action.WHOLE:
            return self._complete(code)
        if self._timer is None or not self._timer.armed:
            self._arm(self._endpoint.tuning.exchange_lifetime)
        return code

    def _receive(self, data: bytes) -> bool:
        if self._stream is not None:
            data = self._stream.feed(data)
            if not data:
                return True
        return self._device.engine.receive(data)

    def _finish(self, data: bytes, code: Code) -> Code:
        if not self._receive(data):
            return self._ended()
        return self._complete(code)

    def _complete(self, code: Code) -> Code:
        if self._stream is not None:
            self._stream.finish()
        self._expected = -1
        self._disarm()
        self._stream = None
        return code if self._device.engine.complete() else self._ended()

    def _ended(self) -> Code:
        """The code for a push that the engine just ended."""
        self._expected = -1
        self._stream = None
        self._replied = 0.0
        self._disarm()
        outcome = self._device.engine.outcome
        if outcome is None:
            return Code.INTERNAL_SERVER_ERROR
        return PUSH_ENDED.get(outcome, Code.INTERNAL_SERVER_ERROR)

    # -- URI, reset, execute --------------------------------------------------------------------

    def write_uri(self, uri: str) -> Code:
        """A Write to 5/0/1."""
        operation = Operation.URI
        if not uri:
            operation = Operation.URI_EMPTY
        else:
            scheme = uri.partition(":")[0].lower() if "://" in uri else ""
            if scheme and scheme not in SCHEMES:
                operation = Operation.URI_SCHEME
            else:
                try:
                    parse_uri(uri, SCHEMES)
                except CoapUriError:
                    operation = Operation.URI_MALFORMED
        engine = self._device.engine
        code, action = answer(engine.state, operation)
        if action is Action.RESET:
            self.reset()
        elif action is Action.FAIL_URI:
            engine.fail(Outcome.BAD_URI, uri)
        elif action is Action.FAIL_SCHEME:
            engine.fail(Outcome.UNSUPPORTED_PROTOCOL, uri)
        elif action is Action.FETCH and engine.begin(uri=uri):
            # The answer to the Write leaves before the first request of the download.
            self._arm(0.0)
        return code

    def execute(self) -> Code:
        """Execute 5/0/2. The device reboots after its reboot delay, so the answer leaves first."""
        engine = self._device.engine
        code, action = answer(engine.state, Operation.EXECUTE)
        if action is Action.INSTALL:
            engine.install()
        return code

    def reset(self) -> None:
        """The empty URI or the NUL package: whatever is under way or kept is dropped."""
        self.stop()
        self._expected = -1
        self._stream = None
        self._device.engine.cancel()

    # -- pull -----------------------------------------------------------------------------------

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = Timer(self._timer_fired)
        runtime = self._device.runtime
        runtime.wheel.arm(self._timer, runtime.clock.now() + delay)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._device.runtime.wheel.disarm(self._timer)

    def _timer_fired(self, now: float) -> None:
        self._device.run(self._timeout, now)

    def _timeout(self, now: float) -> None:
        engine = self._device.engine
        if engine.state is not State.DOWNLOADING:
            return
        if engine.uri:
            if self._transfer is None:
                self._pull(parse_uri(engine.uri, SCHEMES))
            return
        # A push: each block moved on, but the timer was armed only once.
        left = self._replied + self._endpoint.tuning.exchange_lifetime - now
        if left > 0:
            self._arm(left)
        else:
            self._expected = -1
            engine.fail(Outcome.CONNECTION_LOST, "no block of the push for too long")

    def _pull(self, uri: CoapUri) -> None:
        device = self._device
        try:
            host, port = device.runtime.network.resolve(uri.host, uri.port)
        except (OSError, ValueError) as error:
            # ValueError: a name that cannot even be asked for, such as one with an empty label.
            device.engine.fail(Outcome.BAD_URI, f"{uri.host}: {error}")
            return
        engine = device.engine
        if engine.total_size is not None and 0 < engine.total_size <= engine.offset:
            engine.complete()  # the reboot came after the last byte and before the verification
            return
        self._replied = device.runtime.clock.now()
        self._untouched = engine.offset > 0
        self._transfer = self._endpoint.transfer(
            self._endpoint.peer(host, port),
            Message(Code.GET, b"", uri.options()),
            self._pulled,
            on_block=self._pulled_block,
            offset=engine.offset,
            etag=engine.etag,
        )

    def _pulled_block(self, offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        device = self._device
        now = device.runtime.clock.now()
        device.runtime.metrics.block.record(now - self._replied)
        self._replied = now
        return bool(device.run(self._take_block, offset, data, total, etag))

    def _take_block(self, offset: int, data: bytes, total: int | None, etag: bytes) -> bool:
        engine = self._device.engine
        self._untouched = False
        if offset == 0:
            if engine.offset or engine.etag:
                # Another representation (RFC 7959 section 2.4): its first byte again.
                if not engine.begin(uri=engine.uri, etag=etag, total_size=total):
                    return self._dropped()
            elif not engine.describe(etag=etag, total_size=total):
                return self._dropped()
        return engine.receive(data) or self._dropped()

    def _dropped(self) -> bool:
        self._transfer = None
        return False

    def _pulled(self, result: Message | RequestFailed) -> None:
        self._transfer = None
        self._device.run(self._finish_pull, result)

    def _finish_pull(self, result: Message | RequestFailed) -> None:
        engine = self._device.engine
        if engine.state is not State.DOWNLOADING:
            return
        if isinstance(result, RequestFailed):
            engine.fail(Outcome.CONNECTION_LOST, str(result))
        elif result.code == Code.CONTENT:
            engine.complete()
        elif result.code < 160 and self._untouched:
            # We asked for a block in the middle, and what the server has now may be shorter.
            if engine.begin(uri=engine.uri):
                self._arm(0.0)
        elif result.code < 160:
            engine.fail(Outcome.BAD_URI, code_text(result.code))
        else:
            engine.fail(Outcome.CONNECTION_LOST, code_text(result.code))


def _is_reset(request: Message) -> bool:
    data = request.payload
    if len(data) > _LONGEST_RESET:
        return False
    stream = stream_for(request.options.content_format)
    if stream is None:
        return data in _RESETS
    try:
        content = stream.feed(data)
        stream.finish()
    except CodecError:
        return not data
    return content in _RESETS


def _echo(code: Code, block: Block) -> Message:
    return response(code, Options.of((OptionNumber.BLOCK1, block.encode())))
