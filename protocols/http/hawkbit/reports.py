"""What a device tells a DDI server of its action: steps that may get lost, and an end that may not.

A step (`step`) is sent once. 429, a broken connection and a server that is down lose it: hawkBit's
quotas meet exactly the devices that talk most, and nothing depends on a step. The end (`close`) is
sent until the server answers 200, or 410 or 404, which say that it wants to know nothing more of
this action. It is sent by the poll that follows an answered one, so a device that cannot reach its
server does not close anything, and the image that runs has proven itself by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.misbehaviour import Misbehaviour
from agent.runtime.http import HttpFailed
from agent.update import Outcome
from protocols.http.hawkbit.feedback import feedback_body
from protocols.http.hawkbit.memory import ActionRecord
from protocols.http.hawkbit.misbehaviour import OVERSIZED_DETAILS, foreign_action, judge
from protocols.http.hawkbit.tables import (
    ACCEPTED,
    FAILED,
    FEEDBACK,
    ONLY_DOWNLOADED,
    SUCCEEDED,
    Finished,
    Report,
)
from protocols.http.messages import BadAnswer, Refused

if TYPE_CHECKING:
    from protocols.http.hawkbit.client import HawkbitClient

__all__ = ["GONE", "IGNORED", "Reports"]

GONE = frozenset({404, 410})
"""The server does not know the action (any more), or has closed it."""

IGNORED = "cancel ignored"
"""Remembered with the steps: the answer to the end of such an action is judged, after a reboot."""

OK = 200


class Reports:
    """The reports of one client."""

    __slots__ = ("_client", "detail", "foreign")

    def __init__(self, client: HawkbitClient) -> None:
        self._client = client
        self.detail = ""
        """Why the attempt failed, as far as this uptime knows."""
        self.foreign = ""
        """The action for which the wrong reports were made already."""

    async def step(self, name: str, report: Report, detail: str) -> bool:
        """Report a step of the action, unless that was done before; one without a name is always
        reported. False: the server answered that the action is gone."""
        client = self._client
        action = client.memory.action
        assert action is not None, "a step of no action"
        if name in action.sent:
            return True
        status = await self._lossy(action.id, report, [detail])
        if name and client.memory.action is not None:
            client.memory.sent(name)
        return status not in GONE

    async def mention(self, action: str, report: Report, detail: str) -> None:
        """Report a step of an action that the device has not taken up."""
        await self._lossy(action, report, [detail])

    async def close(self) -> bool:
        """Report how the attempt ended, if it did. True: something was settled. Raises what a poll
        may raise, when the report did not land."""
        client = self._client
        engine = client.device.engine
        if not engine.report_pending or client.busy:
            return False
        action = client.memory.action
        if action is None or not client.owns_attempt:
            engine.reported()  # nobody waits for it: the action was cancelled, or is superseded
            return False
        assert engine.outcome is not None
        reports = FEEDBACK[engine.state, engine.outcome]
        if Misbehaviour.NEVER_REPORT in client.misbehave:
            engine.reported()
            return False
        if reports:
            await self._end(action, self._bent(reports[-1]), engine.outcome)
        engine.reported()
        client.forget()
        client.closed = action.id
        return True

    async def close_downloaded(self) -> bool:
        """Report the end of a download-only action. True: it is settled."""
        client = self._client
        action = client.memory.action
        assert action is not None
        if Misbehaviour.NEVER_REPORT in client.misbehave:
            return False
        status = await self._land(action.id, ONLY_DOWNLOADED, ["downloaded and verified"])
        if status == OK:
            client.tell("unfinished", "downloaded", None)
        client.forget()
        client.closed = action.id
        return True

    async def answer_cancel(self, action: str, report: Report, detail: str) -> int:
        """The status of a feedback on cancelAction. Raises what a poll may raise."""
        status = await self._post("cancelAction", action, report, [detail])
        if status not in (OK, 405) and status not in GONE:
            raise BadAnswer(f"the feedback on cancelAction {action} was answered {status}")
        return status

    # -- internals ------------------------------------------------------------------------------

    async def _end(self, record: ActionRecord, report: Report, outcome: Outcome) -> None:
        client = self._client
        action = record.id
        succeeded = report.finished is not Finished.FAILURE
        if succeeded:
            details = [f"runs version {client.device.engine.package_version}"]
        else:
            details = [outcome.name.lower().replace("_", " ")]
            if self.detail:
                details.append(self.detail)
        status = await self._land(action, report, details)
        if IGNORED in record.sent:
            judge(client.device, Misbehaviour.IGNORE_CANCEL, status, "the end after a cancel")
        if status != OK:
            return
        version = client.device.engine.package_version or None
        client.tell(
            "updated" if succeeded else "failed", details[0], version if succeeded else None
        )
        if Misbehaviour.DUPLICATE_REPORT in client.misbehave:
            again = await self._status("deploymentBase", action, report, details)
            judge(client.device, Misbehaviour.DUPLICATE_REPORT, again, "the end, twice,")
        if Misbehaviour.LATE_REPORT in client.misbehave:
            late = await self._status("deploymentBase", action, ACCEPTED, ["late"])
            judge(client.device, Misbehaviour.LATE_REPORT, late, "a step after the end")

    def _bent(self, report: Report) -> Report:
        """What a liar makes of it."""
        lies = self._client.misbehave
        if Misbehaviour.FALSE_SUCCESS in lies and report == FAILED:
            return SUCCEEDED
        if Misbehaviour.FALSE_FAILURE in lies and report == SUCCEEDED:
            return FAILED
        return report

    async def misreport(self, action: str) -> None:
        """What a device reports wrongly as it takes up an action."""
        client = self._client
        if self.foreign == action:
            return
        self.foreign = action
        if Misbehaviour.FOREIGN_REPORT in client.misbehave:
            other = foreign_action(action)
            status = await self._status("deploymentBase", other, FAILED, ["not my action"])
            judge(client.device, Misbehaviour.FOREIGN_REPORT, status, f"failure of {other}")
        if Misbehaviour.OVERSIZED_REPORT in client.misbehave:
            status = await self._status(
                "deploymentBase", action, ACCEPTED, OVERSIZED_DETAILS, bounded=False
            )
            judge(client.device, Misbehaviour.OVERSIZED_REPORT, status, "60 messages at once")

    async def disordered(self, action: str, steps: Sequence[tuple[Report, str]]) -> None:
        """Report steps last to first."""
        for report, detail in reversed(steps):
            status = await self._status("deploymentBase", action, report, [detail])
            judge(self._client.device, Misbehaviour.OUT_OF_ORDER, status, report.execution.value)

    async def _land(self, action: str, report: Report, details: Sequence[str]) -> int:
        """The status of a report that must arrive: 200, or that the action is gone."""
        status = await self._post("deploymentBase", action, report, details)
        if status != OK and status not in GONE:
            what = f"{report.execution.value}/{report.finished.value} of action {action}"
            if status == 401:
                raise Refused(status, what)
            raise BadAnswer(f"{what} was answered {status}")
        return status

    async def _lossy(self, action: str, report: Report, details: Sequence[str]) -> int:
        """The status of a report that may get lost: 0 when it did."""
        if Misbehaviour.NEVER_REPORT in self._client.misbehave:
            return 0
        report = self._client.options.persona.worded(report)
        try:
            status = await self._post("deploymentBase", action, report, details)
            if Misbehaviour.DUPLICATE_REPORT in self._client.misbehave:
                await self._post("deploymentBase", action, report, details)
        except (HttpFailed, Refused) as error:
            self._client.note(f"{report.execution.value} of action {action} is lost: {error}")
            return 0
        return status

    async def _status(
        self,
        resource: str,
        action: str,
        report: Report,
        details: Sequence[str],
        *,
        bounded: bool = True,
    ) -> int:
        """The status of a wrong report, whatever it is. May raise HttpFailed."""
        try:
            return await self._post(resource, action, report, details, bounded=bounded)
        except Refused as refused:
            return refused.status

    async def _post(
        self,
        resource: str,
        action: str,
        report: Report,
        details: Sequence[str],
        *,
        bounded: bool = True,
    ) -> int:
        client = self._client
        body = feedback_body(
            report,
            details,
            persona=client.options.persona,
            action=action,
            utc=client.device.runtime.clock.utc() if client.options.timestamp else None,
            bounded=bounded,
        )
        url = f"{client.base}/{resource}/{action}/feedback"
        answer = await client.ask("POST", url, headers=client.fields, json=body)
        return answer.status
