"""The AWS IoT client of one device: jobs, OTA documents, streams, self test.

It carries out what the job session (`jobs.py`) and the tables decide. One job is worked on at a
time; its id is in `nvm`, so that a device which was switched off knows whether the job it is
offered after the boot is the one that its engine still has an attempt of.

An image on trial is confirmed when the service has taken the report `self_test: active`, that is,
when the new image has talked to the service and the service still wants it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.protocol import ClientSettings, protocol_clients
from agent.runtime.mqtt import MqttCause, MqttSettings
from agent.runtime.wheel import Timer
from agent.update import EngineEvent, Outcome, State
from protocols.mqtt.address import BrokerAddress
from protocols.mqtt.aws.document import BadDocument, OtaFile, parse_document
from protocols.mqtt.aws.fetch import Fetch
from protocols.mqtt.aws.jobs import JobReport, JobSession, JobState
from protocols.mqtt.aws.messages import BadMessage, Execution
from protocols.mqtt.aws.misbehaviour import FOREIGN_JOB, KNOWN, OVERSIZE, Mischief, another_thing
from protocols.mqtt.aws.options import NAMES, parse_options
from protocols.mqtt.aws.signature import load_signer
from protocols.mqtt.aws.tables import FINAL, JobStatus, report
from protocols.mqtt.aws.topics import Kind, Topics
from protocols.mqtt.client import MqttClient
from protocols.mqtt.reconnect import DEFAULT_TUNING, ReconnectTuning

if TYPE_CHECKING:
    from agent.device import Device

__all__ = ["AwsClient"]

ANSWER_SECONDS = 10.0
"""How long the service may take to answer before it is asked again; doubled each time."""
LONGEST_SECONDS = 300.0
"""A broker without a job service behind it is asked so often, and no more."""
_NAMESPACE = "aws"
_HERD = ReconnectTuning(first=1.0, longest=1.0, floor=1.0)
_READY, _ACTIVE, _ACCEPTED = "ready", "active", "accepted"


@protocol_clients.register("aws")
class AwsClient(MqttClient):
    """Connects to ``mqtts://ENDPOINT`` as the thing that has the device's name.

    Raises :class:`~agent.errors.UnusableSettings` for a name that no thing can have, an option or a
    misbehaviour that is not there, and a signer's file that cannot be read."""

    name = "aws"
    OPTIONS = NAMES
    MISBEHAVIOURS = KNOWN

    __slots__ = (
        "_cloned",
        "_deadline",
        "_fetch",
        "_held",
        "_job",
        "_mischief",
        "_sent",
        "_session",
        "_unheard",
        "topics",
    )

    def __init__(self, device: Device, settings: ClientSettings) -> None:
        super().__init__(device, settings)
        options = parse_options(settings.options)
        if options.signer:
            load_signer(options.signer)
        try:
            self.topics = Topics(device.name)
        except ValueError as error:
            raise UnusableSettings(f"aws: {error}") from None
        self._session = JobSession(self, self.topics, str(device.boots), options.step_timeout)
        stored = device.nvm.get(_NAMESPACE, "job")
        self._job = stored.decode("ascii", "replace") if stored is not None else ""
        """The job that the engine's attempt belongs to."""
        self._session.job_id = self._job
        self._fetch: Fetch | None = None
        self._held: Execution | None = None
        """Offered while the engine was still busy with the job before it."""
        self._mischief = Mischief(device, self.topics, self.misbehave) if self.misbehave else None
        self._cloned = Misbehaviour.CLONED_IDENTITY in self.misbehave
        self._sent = 0.0
        self._deadline: Timer | None = None
        self._unheard = 0
        """Requests in a row that were not answered in time."""

    @property
    def job_state(self) -> JobState:
        return self._session.state

    # --- MqttClient

    def identity(self, broker: BrokerAddress) -> MqttSettings:
        credential = self.settings.credential(self.device)
        return MqttSettings(
            broker.host,
            broker.port,
            another_thing(self.device.name) if self._cloned else self.device.name,
            username=credential.username or None,
            password=credential.password or None,
            tls=broker.tls,
            credential=credential,
            keepalive=parse_options(self.settings.options).keepalive,
            clean_session=False,
        )

    def filters(self) -> tuple[str, ...]:
        return self.topics.filters

    def tuning(self) -> ReconnectTuning:
        return _HERD if Misbehaviour.HERD in self.misbehave else DEFAULT_TUNING

    def ready(self, session_present: bool) -> None:
        if self._cloned:
            # A right broker ties a client id to a certificate, and never gets here.
            self._clone_judged(False, "connected")
            self.reconnect()
            return
        self._session.online()

    def ended(self, cause: MqttCause, detail: str) -> None:
        if self._cloned and cause not in (MqttCause.UNREACHABLE, MqttCause.UNTRUSTED):
            self._clone_judged(True, detail)
        self._session.offline()
        if self._fetch is not None:
            self._fetch.pause()
        self._watch()

    def silenced(self) -> None:
        if self._fetch is not None:
            self._fetch.stop()
            self._fetch = None
        if self._deadline is not None:
            self.device.runtime.wheel.disarm(self._deadline)

    def message(self, topic: str, payload: bytes, duplicate: bool) -> None:
        answer = self.topics.read(topic)
        if answer is None or self._cloned:
            return
        try:
            if answer.kind in (Kind.DATA, Kind.STREAM_REJECTED):
                if self._fetch is not None:
                    self._fetch.message(answer, payload)
            elif self._mischief is None or not self._mischief.judge(answer, payload):
                self._unheard = 0
                sent, answers = self._sent, self._session.answers
                self._session.message(answer, payload)
                if self._session.answers > answers:
                    runtime = self.device.runtime
                    runtime.metrics.request.record(runtime.clock.now() - sent)
                self._watch()
        except BadMessage as error:
            self.device.runtime.metrics.counters["malformed"] += 1
            if self.settings.trace is not None:
                self.settings.trace(f"! {topic}: {error}")

    # --- JobHost

    def send(self, topic: str, payload: bytes) -> None:
        self._sent = self.device.runtime.clock.now()
        self.publish(topic, payload)
        self._watch()
        if self._mischief is not None and self._session.job_id and topic.endswith("/update"):
            version = self._session.version
            self._stray(
                Misbehaviour.DUPLICATE_REPORT, self._session.job_id, expectedVersion=version
            )

    def moved(self, old: JobState, new: JobState, cause: str) -> None:
        self.device.record("job", old.value, new.value, cause)
        if new is JobState.IDLE:
            # The service wants nothing of us, and knows what runs: a trial without a job is over.
            self.device.healthy()

    def offered(self, execution: Execution) -> None:
        engine = self.device.engine
        if execution.job_id == self._job:
            self._go_on(execution)
            return
        if engine.state is State.TRIAL:
            self.device.healthy()
        if engine.state in (State.INSTALLING, State.TRIAL):
            self._held = execution
            return
        if engine.state is not State.IDLE:
            self._stop_fetch()
            engine.cancel(Outcome.CANCELLED)
        elif engine.report_pending:
            engine.reported()  # of a job that nobody asks for any more
        self._begin(execution)

    def gone(self, job_id: str) -> None:
        engine = self.device.engine
        if job_id != self._job:
            return
        if Misbehaviour.IGNORE_CANCEL in self.misbehave:
            self._stray(Misbehaviour.IGNORE_CANCEL, job_id)
            if engine.state is State.DOWNLOADED and engine.outcome is None:
                engine.install()
            return
        self._forget_job()
        self._stop_fetch()
        if engine.state is State.DOWNLOADING or engine.state is State.DOWNLOADED:
            engine.cancel(Outcome.CANCELLED)
        elif engine.state is State.IDLE:
            engine.reported()
        self._tell("unfinished", f"job {job_id} is gone")

    def settled(self, job_id: str, taken: JobReport) -> None:
        engine = self.device.engine
        if job_id != self._job:
            return
        step = taken.details.get("self_test", "")
        if taken.final:
            engine.reported()
            self._forget_job()
            verdict = "updated" if taken.status is JobStatus.SUCCEEDED else "failed"
            self._tell(verdict, f"{taken.status.value} {taken.details}")
            self._stray(Misbehaviour.LATE_REPORT, job_id)
        else:
            self._tell("unfinished", f"{taken.status.value} {taken.details}")
            if step == _READY and engine.state is State.DOWNLOADED and engine.outcome is None:
                engine.install()
            elif step == _ACTIVE:
                self.device.healthy()

    def refused(self, job_id: str, refused: JobReport, code: str) -> None:
        """The service finds the report itself wrong: it would refuse it again, so it is dropped."""
        self.device.record("job", "WORKING", "WORKING", f"report refused: {code}"[:80])
        if refused.final and job_id == self._job:
            self.device.engine.reported()

    # --- the engine

    def engine_event(self, event: EngineEvent) -> None:
        if event.new is State.IDLE and self._held is not None:
            held, self._held = self._held, None
            if event.outcome is not None:
                self.device.engine.reported()
            self._begin(held)
            return
        if event.new is not State.DOWNLOADING:
            self._stop_fetch()
        if event.new is not State.INSTALLING:  # `ready` was told before the install
            self._report()

    def _report(self) -> None:
        """Tell the service where the attempt stands."""
        engine = self.device.engine
        told = report(engine.state, engine.outcome)
        if told is None or not self._job or self._job != self._session.job_id:
            if self._job and engine.state is State.DOWNLOADED and self._silent:
                self._install_soon()
            return
        status, details = told.status, dict(told.details)
        if engine.state is State.DOWNLOADING:
            details["receive"] = self._progress()
        elif details.get("self_test") in (_READY, _ACCEPTED):
            running = self.device.running
            version = engine.package_version or (str(running.version) if running else "")
            details["updatedBy"] = version
            if status in FINAL:
                details["reason"] = f"{_ACCEPTED} v{version}"
        wanted = JobReport(status, details)
        if wanted.final:
            wanted = self._bent(wanted)
        if Misbehaviour.NEVER_REPORT in self.misbehave:
            if engine.state is State.DOWNLOADED and engine.outcome is None:
                self._install_soon()
            elif engine.state is State.TRIAL:
                self.device.healthy()
            elif wanted.final:
                engine.reported()
            return
        self._session.report(wanted)

    def progressed(self) -> None:
        """The download passed another step."""
        self._report()

    # --- inside

    @property
    def _silent(self) -> bool:
        return Misbehaviour.IGNORE_CANCEL in self.misbehave

    def _begin(self, execution: Execution) -> None:
        """A job that this device has not begun."""
        device = self.device
        if device.engine.outcome is not None:
            # How the job before this one ended: after a power cut right behind the next line it
            # would be taken for the end of this one.
            device.engine.cancel()
        device.nvm.set(_NAMESPACE, "job", execution.job_id.encode())
        self._job = execution.job_id
        version = self._session.version
        job_id = execution.job_id
        self._stray(Misbehaviour.OUT_OF_ORDER, job_id, expectedVersion=version - 1)
        self._stray(Misbehaviour.FOREIGN_REPORT, FOREIGN_JOB)
        big = {"big": "x" * OVERSIZE}
        self._stray(Misbehaviour.OVERSIZED_REPORT, job_id, statusDetails=big)
        file = self._parse(execution)
        if file is not None:
            self._fetch = Fetch(self, file, parse_options(self.settings.options))
            self._fetch.begin()

    def _go_on(self, execution: Execution) -> None:
        """The job that the engine has an attempt of: after a boot, or after a lost connection."""
        engine = self.device.engine
        if engine.state is State.DOWNLOADING:
            if self._fetch is None:
                file = self._parse(execution)
                if file is None:
                    return
                self._fetch = Fetch(self, file, parse_options(self.settings.options))
            self._fetch.resume()
        elif engine.state is State.IDLE and engine.outcome is None:
            # The power went away between taking the job and beginning it.
            self._begin(execution)
        elif engine.state is not State.INSTALLING:
            self._report()

    def _parse(self, execution: Execution) -> OtaFile | None:
        engine = self.device.engine
        try:
            file = parse_document(execution.document)
        except BadDocument as error:
            engine.fail(Outcome.UNSUPPORTED_PACKAGE, str(error))
            return None
        if not file.ways:
            engine.fail(Outcome.UNSUPPORTED_PROTOCOL, "none of the job's protocols is known")
            return None
        return file

    def _progress(self) -> str:
        engine = self.device.engine
        block = parse_options(self.settings.options).block
        return f"{engine.offset // block}/{-(-(engine.total_size or 0) // block)}"

    def _bent(self, final: JobReport) -> JobReport:
        """What the device says instead of the truth, if it is one that lies."""
        for name, status in (
            (Misbehaviour.FALSE_SUCCESS, JobStatus.SUCCEEDED),
            (Misbehaviour.FALSE_FAILURE, JobStatus.FAILED),
        ):
            if name in self.misbehave:
                return JobReport(status, final.details)
        return final

    def _install_soon(self) -> None:
        if self.device.engine.outcome is None:
            self.device.engine.install()

    def _forget_job(self) -> None:
        self._job = ""
        self.device.nvm.delete(_NAMESPACE, "job")

    def _stop_fetch(self) -> None:
        if self._fetch is not None:
            self._fetch.stop()
            self._fetch = None

    def _tell(self, verdict: str, detail: str) -> None:
        if self.settings.told is not None:
            running = self.device.running
            version = str(running.version) if running is not None else None
            self.settings.told(self.device.name, verdict, detail, version)

    def _stray(self, name: Misbehaviour, job_id: str, **members: object) -> None:
        if self._mischief is not None:
            wrong = self._mischief.update(name, job_id, **members)
            if wrong is not None:
                self.publish(*wrong)

    def _clone_judged(self, kept: bool, detail: str) -> None:
        self._cloned = False
        if self._mischief is not None:
            self._mischief.note(Misbehaviour.CLONED_IDENTITY, kept, detail)

    def _watch(self) -> None:
        """Arm or disarm the deadline of the session's request."""
        runtime = self.device.runtime
        if self._session.waits and self.registered:
            if self._deadline is None:
                self._deadline = Timer(self._unanswered)
            wait = ANSWER_SECONDS * 2.0 ** min(self._unheard, 16)
            runtime.arm(self._deadline, min(wait, LONGEST_SECONDS))
        elif self._deadline is not None:
            runtime.wheel.disarm(self._deadline)

    def _unanswered(self, now: float) -> None:
        self._unheard += 1
        self.device.run(self._session.timeout)
