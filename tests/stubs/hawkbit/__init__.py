"""A small, strict state model of hawkBit 1.0.4: DDI v1 and the management calls of a driver.

It is proven by replaying 208 exchanges that were recorded from the real server
(`test_hawkbit_recorded.py`). It runs in memory (`stub.app` is an ASGI application) and on a socket:

    async with HawkbitStub.serve() as stub:
        ...  # stub.url, stub.user, stub.password, stub.state, stub.requests
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.stubs.hawkbit.ddi import DdiResources
from tests.stubs.hawkbit.deployments import Assignment, Deployments
from tests.stubs.hawkbit.errors import Framework, Plain, Refused
from tests.stubs.hawkbit.http import (
    Receive,
    Request,
    Response,
    Scope,
    Send,
    dispatch,
    read_request,
    refusal,
    render,
    send_response,
)
from tests.stubs.hawkbit.listener import listening
from tests.stubs.hawkbit.management import ManagementResources
from tests.stubs.hawkbit.model import Action, DistributionSet, Target
from tests.stubs.hawkbit.rollouts import Rollouts
from tests.stubs.hawkbit.security import check_device, check_management
from tests.stubs.hawkbit.state import HawkbitState

__all__ = ["HawkbitState", "HawkbitStub", "Seen"]

_DEVICE_PATH = re.compile(r"/([^/]+)/controller/v1/([^/]+)(/.*)?")


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that was answered; `path` includes the query."""

    method: str
    path: str
    status: int


class HawkbitStub:
    """One server. `now` gives seconds since the epoch; nothing here sleeps."""

    def __init__(self, now: Callable[[], float] = time.time, url: str = "http://hawkbit") -> None:
        self.url = url
        self.state = HawkbitState(now)
        self.requests: list[Seen] = []
        self.deployments = Deployments(self.state)
        self.rollouts = Rollouts(self.deployments)
        self._ddi = DdiResources(self.deployments)
        self._management = ManagementResources(self.deployments, self.rollouts)

    @property
    def user(self) -> str:
        return self.state.settings.user

    @property
    def password(self) -> str:
        return self.state.settings.password

    def add_target(self, controller_id: str, token: str = "") -> Target:
        """A target without a request; target tokens are switched on with the first."""
        self.state.configure("authentication.targettoken.enabled", True)
        return self.state.create_target(controller_id, token=token)

    def publish(
        self, version: str, files: Mapping[str, bytes], name: str = "firmware", kind: str = "os"
    ) -> DistributionSet:
        """A distribution set of one module with these artifacts, without a request."""
        module = self.state.create_module(name, version, kind, "")
        for filename, content in files.items():
            self.state.add_artifact(module, filename, content)
        set_kind = "os" if kind == "os" else "app"
        return self.state.create_set(name, version, set_kind, [module.id])

    def assign(self, ds: DistributionSet, *targets: Target, **how: Any) -> list[Action]:
        """Assign without a request; `how` are the members of `Assignment`."""
        assignments = [Assignment(target, **how) for target in targets]
        return self.deployments.assign(ds, assignments)[0]

    @classmethod
    @asynccontextmanager
    async def serve(
        cls, now: Callable[[], float] = time.time, host: str = "127.0.0.1"
    ) -> AsyncIterator[HawkbitStub]:
        """Listens on a free port until the block ends."""
        stub = cls(now)
        async with listening(stub.app, host) as port:
            stub.url = f"http://{host}:{port}"
            yield stub

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        assert scope["type"] == "http", "lifespan and WebSocket are not served"
        target = scope["path"]
        if scope.get("query_string"):
            target += "?" + scope["query_string"].decode("latin-1")
        try:
            request = await read_request(scope, receive, self.state.settings.max_body)
            response = self._answer(request)
        except (Refused, Plain, Framework) as error:
            response = refusal(error, self.state.now())
        self.requests.append(Seen(scope["method"], target, response.status))
        await send_response(send, scope["method"], response)

    def _answer(self, request: Request) -> Response:
        self.rollouts.tick()
        device = _DEVICE_PATH.fullmatch(request.path)
        if device is not None:
            check_device(self.state, request, unquote(device[1]), unquote(device[2]))
            return render(request, dispatch(self._ddi.routes, request, request.path))
        check_management(self.state, request)
        return render(request, dispatch(self._management.routes, request, request.path))
