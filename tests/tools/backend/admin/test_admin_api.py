"""The admin application: its token, accounts, catalogue, health, and what it never says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from agent.runtime.runtime import Runtime
from tests.tools.backend.rest_client import administrator, basic, logged_in
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import CONFIG, IMAGE, started, virtual, world
from tools.backend.admin.token import MODE, AdminToken, TokenRefused, token_from_file
from tools.backend.backend import Backend, BackendConfig
from tools.backend.errors import StoreError

SECOND = "0000000000-00002"
OPEN = {"/healthz", "/readyz"}


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Backend, httpx.AsyncClient]]:
    async with world() as backend, administrator(backend) as admin:
        yield backend, admin


# -- the token ---


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route, with something in the place of parameters."""
    found = []
    for context in iter_route_contexts(app.routes):
        path, methods = context.path, context.methods
        assert path is not None
        plain = path.replace("{name:path}", "x").replace("{name}", "x")
        found += [(method, plain) for method in sorted(methods or ())]
    return found


@virtual
async def test_every_route_asks_for_the_token() -> None:
    async with served() as (backend, admin):
        transport = httpx.ASGITransport(app=backend.admin_app)
        known = routes_of(backend.admin_app)
        asked = [(method, path) for method, path in known if path.startswith("/admin")]
        assert len(asked) > 20
        right = backend.admin_token
        account = backend.account
        wrong = [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            {"Authorization": f"Bearer {right[:-1]}"},
            {"Authorization": f"Bearer {right}x"},
            {"Authorization": f"Basic {right}"},
            {"Authorization": right},
            {"Authorization": b"Bearer \xff\xfe"},
            basic(account.name, account.secret),
        ]
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            for method, path in asked:
                for headers in wrong:
                    answer = await client.request(method, path, headers=headers, content=b"[]")
                    assert answer.status_code == 401, (method, path, headers)
                    assert answer.json()["errorCode"] == "UNAUTHORIZED"
                    assert right not in answer.text
            # Nothing is written by who is not known.
            assert set(backend.inventory.accounts) == {account.name}
            # A customer's token is none.
            async with logged_in(backend) as customer:
                bearer = {"Authorization": customer.headers["Authorization"]}
            assert (await client.get("/admin/accounts", headers=bearer)).status_code == 401
            for path in sorted(OPEN):
                assert (await client.get(path)).json() == {"status": "ok"}
        # Whatever else is mounted here asks for it too, unless it is a file that is alike for all.
        assert (await admin.get("/admin/nowhere")).status_code == 404


@virtual
async def test_customers_find_no_administration() -> None:
    async with world() as backend, logged_in(backend) as api:
        api.headers["Authorization"] = f"Bearer {backend.admin_token}"
        for path in ("/admin/accounts", "/admin/devices", "/admin/clock", "/metrics"):
            assert (await api.get(path)).status_code == 404
        for path in ("/healthz", "/readyz"):
            assert (await api.get(path)).status_code == 200


def test_the_token_is_not_shown() -> None:
    token = AdminToken("a-token-that-is-long-enough")
    assert "a-token" not in repr(token)
    config = BackendConfig(admin_token="a-token-that-is-long-enough")
    assert "a-token" not in repr(config)
    assert token.matches("a-token-that-is-long-enough")
    assert not token.matches("\udcff")


def test_a_token_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = token_from_file(path)
    assert path.stat().st_mode & 0o777 == MODE
    assert token_from_file(path) == made
    assert token_from_file(tmp_path / "other") != made
    path.write_text("a-token-of-my-own\n")
    assert token_from_file(path) == "a-token-of-my-own"
    for content in (b"", b"short", b"two words of a token", b"\xff" * 20, b"x" * 2_000):
        path.write_bytes(content)
        with pytest.raises(TokenRefused) as raised:
            token_from_file(path)
        assert str(path) in str(raised.value)
        assert "words" not in str(raised.value)
    for missing in (tmp_path / "no" / "token", tmp_path):
        with pytest.raises(TokenRefused):
            token_from_file(missing)


@virtual
async def test_the_token_of_the_config() -> None:
    token = "a-token-that-is-long-enough"
    async with world(replace(CONFIG, admin_token=token)) as backend:
        assert backend.admin_token == token
        async with administrator(backend) as admin:
            assert (await admin.get("/admin/accounts")).status_code == 200


# -- accounts ---


@rules("BR-116")
@virtual
async def test_an_account_from_its_making_to_its_use(tmp_path: Path) -> None:
    config = replace(CONFIG, db=str(tmp_path / "b.db"), pilot_waived=False)
    async with Runtime.in_memory() as runtime:
        async with started(runtime, config) as backend, administrator(backend) as admin:
            made = await admin.post("/admin/accounts", json={"name": SECOND, "v3Abort": False})
            assert made.status_code == 200, made.text
            assert made.headers["cache-control"] == "no-store"
            secret = made.json()["secret"]
            shown = {
                "name": SECOND,
                "purchaseType": "TS-HFOTA-EVNT",
                "licenseCount": 0,
                "licensesUsed": 0,
                "subscribed": "2030-01-01T00:00:00.000Z",
                "pilotWaived": False,
                "omadmMode": "network_aware",
                "v3Abort": False,
                "deviceCount": 0,
            }
            assert made.json() == {**shown, "secret": secret}
            listed = (await admin.get("/admin/accounts")).json()["accounts"]
            assert [item["name"] for item in listed] == [backend.account.name, SECOND]
            assert listed[1] == shown
            assert (await admin.get(f"/admin/accounts/{SECOND}")).json() == shown
            # It logs in, and nobody else does.
            token = "/api/ts/v1/oauth2/token"
            form = {"grant_type": "client_credentials"}
            async with logged_in(backend) as api:
                one = await api.post(token, headers=basic(SECOND, secret), data=form)
                assert one.status_code == 200
                rotated = (await admin.post(f"/admin/accounts/{SECOND}/secret")).json()["secret"]
                assert rotated != secret
                for text, status in ((secret, 401), (rotated, 200)):
                    one = await api.post(token, headers=basic(SECOND, text), data=form)
                    assert one.status_code == status
            changed = {"pilotWaived": True, "omadmMode": "one_attempt"}
            answer = await admin.patch(f"/admin/accounts/{SECOND}", json=changed)
            assert answer.json() == {**shown, **changed}
            sent = [{"deviceId": "350000000000001"}]
            await admin.put(f"/admin/devices?account={SECOND}", json=sent)
        async with started(runtime, config) as backend, administrator(backend) as admin:
            assert backend.inventory.accounts[SECOND].secret == rotated
            again = (await admin.get(f"/admin/accounts/{SECOND}")).json()
            assert again == {**shown, **changed, "deviceCount": 1}


@virtual
async def test_of_two_that_make_the_same_account_one_does() -> None:
    async with served() as (backend, admin):
        answers = await asyncio.gather(
            *(admin.post("/admin/accounts", json={"name": SECOND}) for _ in range(3))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        [won] = [answer for answer in answers if answer.status_code == 200]
        assert backend.inventory.accounts[SECOND].secret == won.json()["secret"]


@virtual
async def test_of_two_changes_of_an_account_both_hold() -> None:
    async with served() as (backend, admin):
        await asyncio.gather(
            admin.patch(f"/admin/accounts/{backend.account.name}", json={"v3Abort": False}),
            admin.patch(
                f"/admin/accounts/{backend.account.name}", json={"omadmMode": "one_attempt"}
            ),
            admin.put(
                f"/admin/accounts/{backend.account.name}/subscription",
                json={"purchaseType": "TS-HFOTA-MRC", "licenseCount": 9},
            ),
        )
        account = backend.account
        assert (account.v3_abort, account.omadm_mode) == (False, "one_attempt")
        assert (account.purchase_type, account.licence_count) == ("TS-HFOTA-MRC", 9)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {}),
        ("POST", "", {"name": "me"}),
        ("POST", "", {"name": "0000000000-00002\n"}),
        ("POST", "", {"name": "\u0660" * 10 + "-00002"}),
        ("POST", "", {"name": SECOND, "secret": "mine"}),
        ("POST", "", {"name": SECOND, "omadmMode": "never"}),
        ("POST", "", {"name": SECOND, "v3Abort": "no"}),
        ("POST", "", [SECOND]),
        ("GET", f"/{SECOND}", None),
        ("GET", "/me", None),
        ("PATCH", f"/{SECOND}", {"v3Abort": True}),
        ("PATCH", f"/{CONFIG.account}", {"name": SECOND}),
        ("POST", f"/{SECOND}/secret", None),
        ("PUT", f"/{SECOND}/subscription", {"purchaseType": "TS-HFOTA-MRC", "licenseCount": 1}),
        ("PUT", f"/{CONFIG.account}/subscription", {}),
        ("PUT", f"/{CONFIG.account}/subscription", {"purchaseType": "X", "licenseCount": 1}),
        (
            "PUT",
            f"/{CONFIG.account}/subscription",
            {"purchaseType": "TS-HFOTA-MRC", "licenseCount": -1},
        ),
        (
            "PUT",
            f"/{CONFIG.account}/subscription",
            {"purchaseType": "TS-HFOTA-MRC", "licenseCount": 2**63},
        ),
    ],
)
@virtual
async def test_accounts_that_are_refused(method: str, path: str, body: object) -> None:
    async with served() as (backend, admin):
        before = dict(backend.inventory.accounts)
        answer = await admin.request(method, f"/admin/accounts{path}", json=body)
        assert answer.status_code == 400, answer.text
        assert set(answer.json()) == {"errorCode", "errorMessage"}
        assert backend.inventory.accounts == before


@virtual
async def test_a_subscription_that_shrinks_takes_licences_back() -> None:
    async with served() as (backend, admin):
        ids = [str(350000000000000 + number) for number in range(4)]
        await admin.put("/admin/devices", json=[{"deviceId": one} for one in ids])
        path = f"/admin/accounts/{backend.account.name}/subscription"
        monthly = {"purchaseType": "TS-HFOTA-MRC", "licenseCount": 4}
        assert (await admin.put(path, json=monthly)).json()["licenseCount"] == 4
        await backend.licences.assign(backend.account, ids)
        fewer = (await admin.put(path, json={**monthly, "licenseCount": 1})).json()
        assert (fewer["licenseCount"], fewer["licensesUsed"]) == (1, 1)
        assert backend.licences.holds(ids[-1])


# -- firmware ---


@virtual
async def test_the_catalogue() -> None:
    async with served() as (backend, admin):
        query = "name=app&version=2.0.0&versionFrom=1.0.0&make=acme&model=m1&releaseNote=first"
        made = (await admin.put(f"/admin/firmware?{query}", content=IMAGE)).json()
        [listed] = (await admin.get("/admin/firmware")).json()["firmware"]
        assert listed == made
        assert (made["firmwareName"], made["firmwareFrom"], made["firmwareTo"]) == (
            "app",
            "1.0.0",
            "2.0.0",
        )
        assert (made["size"], made["releaseNote"]) == (len(IMAGE), "first")
        await admin.post("/admin/accounts", json={"name": SECOND})
        other = f"/admin/firmware?account={SECOND}"
        assert (await admin.get(other)).json() == {"account": SECOND, "firmware": []}
        await admin.put(f"{other}&name=app&version=2.0.0", content=IMAGE)
        # The bytes are shared, and stay as long as somebody has them.
        assert (await admin.delete("/admin/firmware/app")).json() == made
        assert (await admin.get("/admin/firmware")).json()["firmware"] == []
        assert await contents(backend) == 1
        assert (await admin.delete(f"/admin/firmware/app?account={SECOND}")).is_success
        assert await contents(backend) == 0
        assert (await admin.delete("/admin/firmware/app")).status_code == 400


async def contents(backend: Backend) -> int:
    from sqlalchemy import func, select

    from tools.backend.store import tables

    query = select(func.count()).select_from(tables.contents)
    return int(await backend.writer.read(lambda connection: connection.execute(query).scalar_one()))


@pytest.mark.parametrize(
    "query",
    [
        "name=app",
        "version=1",
        "name=&version=1",
        "name=app&version=",
        "name=app&version=1&protocol=GSM",
        "name=a%00b&version=1",
        "name=app&version=1%0a",
        "name=" + "n" * 129 + "&version=1",
        "name=app&version=1&releaseNote=" + "r" * 513,
        "name=app&version=1&account=0000000000-00009",
    ],
)
@virtual
async def test_firmware_that_is_refused(query: str) -> None:
    async with served() as (backend, admin):
        assert (await admin.put(f"/admin/firmware?{query}", content=IMAGE)).status_code == 400
        assert (await admin.put("/admin/firmware?name=a&version=1")).status_code == 400
        assert backend.inventory.packages == {}


@virtual
async def test_firmware_in_use_is_not_deleted() -> None:
    async with served() as (backend, admin):
        await admin.put("/admin/firmware?name=app&version=2.0.0", content=IMAGE)
        await backend.load_devices([{"name": "meter"}])
        firmware = backend.inventory.packages[backend.account.name, "app"]
        campaign = await backend.create_campaign(["meter"], firmware)
        answer = await admin.delete("/admin/firmware/app")
        assert (answer.status_code, campaign.id in answer.text) == (409, True)
        await backend.engine.cancel(campaign)
        assert (await admin.delete("/admin/firmware/app")).status_code == 200
        # Its history still names the bytes.
        assert await contents(backend) == 1


# -- the rest ---


@virtual
async def test_callbacks() -> None:
    async with served() as (_backend, admin):
        assert (await admin.get("/admin/callbacks")).json() == {"callbacks": []}
        for bad in ("state=lost", "limit=0", "limit=1001"):
            assert (await admin.get(f"/admin/callbacks?{bad}")).status_code == 400


@virtual
async def test_ready_only_while_the_database_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Runtime.in_memory() as runtime:
        backend = Backend(runtime, CONFIG)
        for app in (backend.app, backend.admin_app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://b") as client:
                assert (await client.get("/readyz")).status_code == 503
                assert (await client.get("/healthz")).status_code == 200
        await backend.start()
        async with administrator(backend) as admin:
            assert (await admin.get("/readyz")).status_code == 200

            async def broken(_work: object) -> None:
                raise StoreError("postgresql://user:hidden@host")

            monkeypatch.setattr(backend.writer, "read", broken)
            answer = await admin.get("/readyz")
            assert answer.status_code == 503
            assert "hidden" not in answer.text

            async def stuck(_work: object) -> None:
                await asyncio.sleep(3600)

            monkeypatch.setattr(backend.writer, "read", stuck)
            assert (await admin.get("/readyz")).json() == {"status": "the database is busy"}
            monkeypatch.undo()
            await backend.stop()
            assert (await admin.get("/readyz")).status_code == 503


@virtual
async def test_the_document() -> None:
    async with served() as (backend, admin):
        document = (await admin.get("/admin/openapi.json")).json()
        described = {
            (method.upper(), path)
            for path, operations in document["paths"].items()
            for method in operations
        }
        served_paths = {
            (method, path)
            for method, path in routes_of(backend.admin_app)
            if path.startswith("/admin") and path != "/admin/openapi.json"
        }
        plain = {(method, path.replace("{name}", "x")) for method, path in described}
        assert served_paths <= plain
        names = [
            operation["operationId"]
            for operations in document["paths"].values()
            for operation in operations.values()
        ]
        assert len(names) == len(set(names))
        assert "set_clock" in names
        text = str(document)
        assert "422" not in text
        assert backend.admin_token not in text


@virtual
async def test_no_secret_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with served() as (backend, admin):
        made = (await admin.post("/admin/accounts", json={"name": SECOND})).json()["secret"]
        rotated = (await admin.post(f"/admin/accounts/{SECOND}/secret")).json()["secret"]
        await admin.put("/admin/devices", json=[{"name": "m", "token": "token-of-the-meter"}])
        minted = (await admin.post("/admin/devices/tokens", json={"names": ["m"]})).json()
        secrets = [made, rotated, backend.admin_token, "token-of-the-meter"]
        secrets += minted["tokens"].values()
        for path in (
            "/admin/accounts",
            "/admin/devices",
            "/admin/devices/m",
            "/admin/openapi.json",
        ):
            text = (await admin.get(path)).text
            assert not [secret for secret in secrets if secret in text], path
        assert not [secret for secret in secrets if secret in caplog.text]
        journal = str(backend.runtime.journal)
        assert not [secret for secret in secrets if secret in journal]
        assert rotated not in repr(backend.inventory.accounts)
