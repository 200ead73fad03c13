"""How the image of a job gets into the engine: by MQTT stream, or by URL.

A stream is asked for in windows (`streams.py`); a window that is not complete in time is asked for
again, and `MAX_MOMENTUM` requests in a row that brought nothing end the attempt. A URL is a story
of the HTTP clients' own download. Both go on where the engine's record stands after a power cut.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.flash import SECONDARY, PowerLoss
from agent.outcome import Outcome
from agent.runtime.wheel import Timer
from agent.update import State
from agent.verification import OUTCOME_OF
from firmware_images.errors import ImageRefused
from protocols.http.carrier import Carrier
from protocols.http.download import Download, Resource
from protocols.mqtt.aws.document import OtaFile, Way
from protocols.mqtt.aws.options import AwsOptions
from protocols.mqtt.aws.signature import SignatureCheck, load_signer
from protocols.mqtt.aws.streams import StreamDownload, stream_rejection
from protocols.mqtt.aws.topics import Answer, Kind

if TYPE_CHECKING:
    from protocols.mqtt.aws.client import AwsClient

__all__ = ["STREAM_ERRORS", "Fetch"]

BLOCK_SECONDS = 10.0
"""How long a window may take (FreeRTOS: otaconfigFILE_REQUEST_WAIT_MS)."""
MAX_MOMENTUM = 32
"""Requests in a row without a block (FreeRTOS: otaconfigMAX_NUM_REQUEST_MOMENTUM)."""
PROGRESS_STEPS = 4
"""Progress is reported so often per download: each report is a paid message and a new version."""
_FLASH_PIECE = 64 * 1024

STREAM_ERRORS: dict[str, Outcome | None] = {
    # The request was wrong: whoever wrote the job wants something that we cannot ask for.
    "InvalidTopic": Outcome.UNSUPPORTED_PROTOCOL,
    "InvalidJson": Outcome.UNSUPPORTED_PROTOCOL,
    "InvalidCbor": Outcome.UNSUPPORTED_PROTOCOL,
    "InvalidRequest": Outcome.UNSUPPORTED_PROTOCOL,
    "BlockSizeOutOfBounds": Outcome.UNSUPPORTED_PROTOCOL,
    "BlockCountLimitExceeded": Outcome.UNSUPPORTED_PROTOCOL,
    "BlockBitmapLimitExceeded": Outcome.UNSUPPORTED_PROTOCOL,
    # The stream is not there, or not for us.
    "Unauthorized": Outcome.BAD_URI,
    "ResourceNotFound": Outcome.BAD_URI,
    # The file is not the one that the job describes.
    "OffsetOutOfBounds": Outcome.INTEGRITY,
    "VersionMismatch": Outcome.INTEGRITY,
    "ETagMismatch": Outcome.INTEGRITY,
    # Asked again when the time is up.
    "InternalError": None,
}
"""What a rejected GetStream means for the attempt. The mapping is our choice."""


class Fetch:
    """One file on its way."""

    __slots__ = (
        "_asked",
        "_check",
        "_client",
        "_file",
        "_momentum",
        "_options",
        "_step",
        "_story",
        "_stream",
        "_timer",
        "_way",
    )

    def __init__(self, client: AwsClient, file: OtaFile, options: AwsOptions) -> None:
        self._client = client
        self._file = file
        self._options = options
        wanted = options.download
        self._way = wanted if wanted is not None and wanted in file.ways else file.ways[0]
        self._stream: StreamDownload | None = None
        self._story: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._momentum = 0
        self._step = 0
        self._asked = 0.0
        self._check: SignatureCheck | None = None

    def begin(self) -> None:
        """From the first byte."""
        if self._way is Way.URL:
            self._tell()
        elif self._client.device.engine.begin(uri=self._uri, total_size=self._file.size):
            self._open(0)

    def resume(self) -> None:
        """Where the engine stands: after a boot, or after a lost connection."""
        engine = self._client.device.engine
        if self._way is Way.URL:
            if self._story is None:
                self._tell()
        elif self._stream is not None:
            self._ask()
        elif engine.resumable and engine.uri == self._uri and engine.total_size == self._file.size:
            self._open(engine.offset)
        else:
            self.begin()

    def pause(self) -> None:
        """There is no connection: nothing can be asked for. A URL needs none."""
        self._disarm()

    def stop(self) -> None:
        self._disarm()
        self._stream = None
        story, self._story = self._story, None
        if story is not None and story is not _current_task():
            story.cancel()

    # --- by stream

    def message(self, answer: Answer, payload: bytes) -> None:
        """A block, or the refusal of a request. Raises
        :class:`~protocols.mqtt.aws.messages.BadMessage`."""
        stream = self._stream
        if stream is None or answer.subject != stream.stream or answer.encoding != stream.encoding:
            return
        if answer.kind is Kind.STREAM_REJECTED:
            code = stream_rejection(payload, answer.encoding)
            outcome = STREAM_ERRORS.get(code, Outcome.UNSUPPORTED_PROTOCOL)
            if outcome is not None:
                self._client.device.engine.fail(outcome, f"stream: {code or 'rejected'}"[:80])
            return
        waited = not stream.answered
        data = stream.block(payload)
        if waited and stream.answered:
            runtime = self._client.device.runtime
            runtime.metrics.block.record(runtime.clock.now() - self._asked)
        if data:
            self._momentum = 0
            if self._take(data):
                self._next()
        elif stream.answered:
            self._next()

    @property
    def _uri(self) -> str:
        return f"stream:{self._file.stream}/{self._file.file_id}"

    def _open(self, offset: int) -> None:
        options, file = self._options, self._file
        device = self._client.device
        self._stream = StreamDownload(
            file.stream,
            file.file_id,
            file.size,
            offset=offset,
            block=options.block,
            window=options.window,
            encoding=options.encoding,
            token=f"{device.boots}.{device.engine.attempt}",
        )
        self._step = offset * PROGRESS_STEPS // file.size
        if options.signer:
            self._check = self._new_check()
            for start in range(0, offset, _FLASH_PIECE):
                # The digest lived in RAM; the bytes are in the flash.
                size = min(_FLASH_PIECE, offset - start)
                self._check.feed(device.flash.read(SECONDARY, start, size))
        self._ask()

    def _take(self, data: bytes) -> bool:
        """False when the attempt ended, or the image is complete."""
        engine = self._client.device.engine
        stream = self._stream
        assert stream is not None
        if self._check is not None:
            self._check.feed(data)
        if not engine.receive(data):
            return False
        if not stream.complete:
            step = stream.offset * PROGRESS_STEPS // stream.size
            if step > self._step:
                self._step = step
                self._client.progressed()
            return True
        self._disarm()
        self._stream = None
        try:
            if self._check is not None:
                self._check.finish()
        except ImageRefused as refused:
            engine.fail(OUTCOME_OF[refused.reason], str(refused))
            return False
        engine.complete()
        return False

    def _next(self) -> None:
        """Ask for the next window when this one is here, no faster than the link is."""
        stream = self._stream
        if stream is None or not stream.answered:
            return
        bandwidth = self._client.settings.bandwidth
        if bandwidth:
            self._arm(self._options.block * self._options.window / bandwidth)
        else:
            self._ask()

    def _ask(self) -> None:
        stream = self._stream
        assert stream is not None
        self._asked = self._client.device.runtime.clock.now()
        topic = self._client.topics.get_stream(stream.stream, stream.encoding)
        if self._client.publish(topic, stream.request()):
            self._arm(BLOCK_SECONDS)

    def _due(self, now: float) -> None:
        self._client.device.run(self._timeout)

    def _timeout(self) -> None:
        stream = self._stream
        if stream is None:
            return
        if not stream.answered:
            self._momentum += 1
            if self._momentum > MAX_MOMENTUM:
                self._client.device.engine.fail(
                    Outcome.CONNECTION_LOST, f"{MAX_MOMENTUM} requests brought no block"
                )
                return
        self._ask()

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = Timer(self._due)
        self._client.device.runtime.arm(self._timer, delay)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._client.device.runtime.wheel.disarm(self._timer)

    def _new_check(self) -> SignatureCheck:
        return SignatureCheck(load_signer(self._options.signer), self._file.signature)

    # --- by URL

    def _tell(self) -> None:
        self._story = asyncio.get_running_loop().create_task(self._by_url())

    async def _by_url(self) -> None:
        client = self._client
        # A presigned URL is proof enough: the thing's certificate is for the broker alone.
        download = Download(
            Carrier(client.device, client.settings, self._file.url),
            Resource(self._file.url, self._file.size),
            # With a signature to check a cut download begins again: its digest lived in RAM.
            unpacker=self._new_check if self._options.signer else None,
            on_progress=self._passed,
        )
        try:
            await download.run()
        except PowerLoss:
            return
        finally:
            self._story = None

    def _passed(self, offset: int, size: int | None) -> None:
        step = offset * PROGRESS_STEPS // self._file.size
        if step > self._step and self._client.device.engine.state is State.DOWNLOADING:
            self._step = step
            if offset < self._file.size:
                self._client.progressed()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
