"""Clients of the backend's applications, logged in as the SDK does it or as the administrator."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tools.backend.backend import Backend


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@asynccontextmanager
async def administrator(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the admin API."""
    transport = httpx.ASGITransport(app=backend.admin_app)
    headers = {"Authorization": f"Bearer {backend.admin_token}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://admin", headers=headers
    ) as client:
        yield client


@asynccontextmanager
async def logged_in(backend: Backend) -> AsyncIterator[httpx.AsyncClient]:
    name, secret = backend.account.name, backend.account.secret
    transport = httpx.ASGITransport(app=backend.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(
            "/api/ts/v1/oauth2/token",
            headers=basic(name, secret),
            data={"grant_type": "client_credentials"},
        )
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = await client.post(
            "/api/m2m/v1/session/login", json={"username": name, "password": secret}
        )
        client.headers["VZ-M2M-Token"] = answer.json()["sessionToken"]
        yield client
