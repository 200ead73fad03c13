"""The client and the answers it gets: lost ones, other ones, bad ones, refused credentials."""

from __future__ import annotations

import pytest

from agent.update import State
from tests.protocols.http.checkin.world import (
    GOOD,
    client,
    package,
    version,
    virtual,
    world,
)


@pytest.mark.parametrize("state", GOOD)
def test_a_lost_answer_repeats_the_same_report(state):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", package())
            lost = []

            def lose(what, body):
                if body.get("state") == state and not lost:
                    lost.append(body)
                    return True
                return False

            w.backend.lose = lose
            device = w.device()
            await w.until(lambda: len(w.told) == 1)
            again = [body for _, _, body, _ in w.backend.reports if body["seq"] == lost[0]["seq"]]
            assert again == [lost[0], lost[0]]
            assert version(device) == "2.0.0"
            assert w.backend.results["dev-1", "campaign-1"] == ("success", "")

    run()


@virtual
async def test_a_lost_check_in_is_a_retry():
    async with world() as w:
        count = []
        w.backend.lose = lambda what, body: len(count) < 2 and not count.append(1)
        device = w.device()
        await w.until(lambda: len(w.backend.check_ins) == 3)
        assert [body["reason"] for _, body in w.backend.check_ins] == ["power-up", "retry", "retry"]
        await w.sleep(1)
        assert client(device).registered


@virtual
async def test_leave_is_asked_again_when_the_server_s_window_is_closed():
    async with world() as w:
        w.backend.order("dev-1", package())
        asked = []

        def refuse(what, body):
            if body.get("state") == "installing" and len(asked) < 3:
                asked.append((w.runtime.clock.now(), body["seq"]))
                return 503, {"retry-after": "600"}
            return None

        w.backend.refuse = refuse
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        assert len({seq for _, seq in asked}) == 1
        assert all(600 <= b[0] - a[0] <= 610 for a, b in zip(asked, asked[1:], strict=False))
        # To be told to wait is no failure.
        assert not [e for e in w.events if e[0] == "check-in" and "failed" in e[3]]


@virtual
async def test_a_busy_server_gets_results_and_is_spared_steps():
    async with world() as w:
        w.backend.order("dev-1", package())
        w.backend.refuse = lambda what, body: (
            (429, {"retry-after": "30"}) if body.get("state") in GOOD[:2] else None
        )
        device = w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 60)
        assert w.backend.states() == ["installing", "success"]
        assert version(device) == "2.0.0"


@pytest.mark.parametrize("status", [404, 409, 410])
@pytest.mark.parametrize("state", GOOD)
def test_a_campaign_that_is_over_is_dropped(status, state):
    @virtual
    async def run():
        async with world() as w:
            w.backend.order("dev-1", package())

            def refuse(what, body):
                if body.get("state") == state:
                    w.backend.orders.pop("dev-1", None)
                    return status, {}
                return None

            w.backend.refuse = refuse
            device = w.device()
            await w.until(lambda: any(e[3] == "dropped" for e in w.events))
            await w.sleep(2 * 3600)
            assert w.backend.states() == GOOD[: GOOD.index(state)]
            assert "current" not in w.backend.check_ins[-1][1]
            assert version(device) == ("2.0.0" if state == "success" else "1.0.0")
            assert device.engine.state is State.IDLE and not device.engine.report_pending
            assert w.told == []

    run()


@virtual
async def test_a_report_that_is_refused_waits_for_the_next_check_in():
    async with world() as w:
        w.backend.order("dev-1", package())
        refused = []

        def refuse(what, body):
            if body.get("state") == "success" and len(refused) < 2:
                refused.append(w.runtime.clock.now())
                return 400, {}
            return None

        w.backend.refuse = refuse
        w.device()
        await w.until(lambda: ("dev-1", "campaign-1") in w.backend.closed, 4 * 3600)
        assert 3600 <= refused[1] - refused[0] <= 3661


# -- credentials and bad answers ----------------------------------------------------------------


@virtual
async def test_a_refused_credential_keeps_the_device_away():
    async with world() as w:
        device = w.device(token="wrong")
        await w.sleep(3600)
        assert not client(device).registered
        refusals = [line for line in w.trace if line.startswith("! 401")]
        # Back-off: some at first, then one in a few minutes.
        assert 10 < len(refusals) < 40
        assert all("refuses the credential of dev-1" in line for line in refusals)
        assert not [line for line in w.trace if "wrong" in line or "token" in line]
        # The journal says it once.
        assert [event for event in w.events if event[0] == "check-in"] == [
            (
                "check-in",
                "OFFLINE",
                "OFFLINE",
                "failed: 401 to the check-in: the server refuses the credential of dev-1",
            )
        ]


@pytest.mark.parametrize(
    "body",
    [b"{}", b"<html>", b'{"serverTime": 1}', b"[" * 5000, b"\xff" * 100, b"[" + b" " * (2 << 20)],
    ids=["empty", "html", "types", "deep", "binary", "huge"],
)
def test_a_bad_answer_is_the_server_s_fault(body):
    @virtual
    async def run():
        async with world() as w:

            async def app(scope, receive, send):
                start = {"type": "http.response.start", "status": 200, "headers": []}
                await send(start)
                await send({"type": "http.response.body", "body": body})

            w.http.serve("http://backend.test:8080", app)
            device = w.device()
            await w.sleep(600)
            assert not client(device).registered
            assert any(line.startswith("! ") for line in w.trace)
            w.http.serve("http://backend.test:8080", w.backend)
            await w.sleep(301)
            assert client(device).registered

    run()  # fmt: skip


@virtual
async def test_an_unreachable_server_is_tried_again():
    async with world() as w:
        w.http.refuse("http://backend.test:8080")
        device = w.device()
        await w.sleep(300)
        w.http.serve("http://backend.test:8080", w.backend)
        await w.until(lambda: client(device).registered, 301)
        assert w.backend.check_ins[0][1]["reason"] == "retry"


@virtual
async def test_the_token_stays_with_its_server():
    async with world() as w:
        seen = []

        async def elsewhere(scope, receive, send):
            seen.append({name for name, _ in scope["headers"]})
            data = package()
            fields = [(b"content-length", str(len(data)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": data})

        w.http.serve("http://cdn.test", elsewhere)
        w.backend.order("dev-1", package(), url="http://cdn.test/fw")
        device = w.device()
        await w.until(lambda: version(device) == "2.0.0")
        assert seen and all(b"authorization" not in names for names in seen)
