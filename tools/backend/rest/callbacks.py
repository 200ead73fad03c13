"""Callback listeners in all three versions of the API: v1's own shapes, and those of v2 and v3."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Request

from tools.backend.inventory import Account
from tools.backend.refusals import Refusal
from tools.backend.rest import callback_models as shapes
from tools.backend.rest.body import read_model
from tools.backend.rest.common import body_of

if TYPE_CHECKING:
    from tools.backend.backend import Backend

Caller = Callable[..., Awaitable[Account]]

SERVICE = "Fota"
"""The one service of v1 that calls back."""


def _check_service(name: str) -> None:
    if name != SERVICE:
        raise Refusal.CALLBACK_SERVICE(name=SERVICE)


def add_v1(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of `/callbacks` in v1."""
    Owner = Annotated[Account, Depends(caller)]
    version = 1

    @routes.get("/callbacks/{acc}", operation_id="list_registered_callbacks")
    async def listed(account: Owner) -> list[shapes.RegisteredCallbacks]:
        listener = backend.callbacks.listener(account.name, version)
        if listener is None:
            return []
        return [shapes.RegisteredCallbacks(aname=account.name, name=SERVICE, url=listener.url)]

    @routes.post(
        "/callbacks/{acc}",
        operation_id="register_callback",
        openapi_extra=body_of(shapes.FotaV1CallbackRegistrationRequest),
    )
    async def register(account: Owner, request: Request) -> shapes.FotaV1CallbackRegistrationResult:
        asked = await read_model(request, shapes.FotaV1CallbackRegistrationRequest)
        _check_service(asked.name)
        await backend.callbacks.register(account.name, version, asked.url)
        return shapes.FotaV1CallbackRegistrationResult(
            accountName=account.name, serviceName=SERVICE
        )

    @routes.delete("/callbacks/{acc}/name/{service}", operation_id="deregister_callback")
    async def deregister(account: Owner, service: str) -> shapes.CallbackSuccess:
        _check_service(service)
        await backend.callbacks.deregister(account.name, version)
        return shapes.CallbackSuccess(success=True)


def add_v2(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of `/callbacks` in v2."""
    _add_newer(routes, backend, caller, 2)


def add_v3(routes: APIRouter, backend: "Backend", caller: Caller) -> None:
    """The routes of `/callbacks` in v3."""
    _add_newer(routes, backend, caller, 3)


def _add_newer(routes: APIRouter, backend: "Backend", caller: Caller, version: int) -> None:
    Owner = Annotated[Account, Depends(caller)]

    @routes.get(
        "/callbacks/{acc}",
        operation_id="list_registered_callbacks",
        response_model_exclude_none=True,
    )
    async def shown(account: Owner) -> shapes.CallbackSummary:
        listener = backend.callbacks.listener(account.name, version)
        return shapes.CallbackSummary(url=None if listener is None else listener.url)

    @routes.post(
        "/callbacks/{acc}",
        operation_id="register_callback",
        openapi_extra=body_of(shapes.CallbackRegistrationRequest),
    )
    async def register(account: Owner, request: Request) -> shapes.CallbackRegistrationResult:
        asked = await read_model(request, shapes.CallbackRegistrationRequest)
        listener = await backend.callbacks.register(account.name, version, asked.url)
        return shapes.CallbackRegistrationResult(url=listener.url)

    @routes.put(
        "/callbacks/{acc}",
        operation_id="update_callback",
        openapi_extra=body_of(shapes.CallbackRegistrationRequest),
    )
    async def change(account: Owner, request: Request) -> shapes.CallbackRegistrationResult:
        asked = await read_model(request, shapes.CallbackRegistrationRequest)
        listener = await backend.callbacks.change(account.name, version, asked.url)
        return shapes.CallbackRegistrationResult(url=listener.url)

    @routes.delete("/callbacks/{acc}", operation_id="deregister_callback")
    async def deregister(account: Owner) -> shapes.CallbackSuccess:
        await backend.callbacks.deregister(account.name, version)
        return shapes.CallbackSuccess(success=True)
