"""`fotilla demo` and `fotilla run`, whole, with real sockets and few devices."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.credentials import Credential
from agent.errors import UnusableSettings
from agent.misbehaviour import Misbehaviour
from agent.runtime.runtime import Runtime
from firmware_images import UnusableInput
from firmware_images.keys import KeyType
from firmware_images.mcuboot import Version, build_image
from protocols.coap import CoapEndpoint, Code, parse_uri
from tests.busy import ANY_LAG
from tools.backend.backend import Backend, BackendConfig
from tools.drivers.errors import ServerUnreachable
from tools.fleet import commands, demo, shard
from tools.fleet.factory import derived_key, payload
from tools.fleet.fleet import join, settings_of
from tools.fleet.image_server import ImageServer
from tools.fleet.progress import Progress
from tools.fleet.report import report_document
from tools.fleet.server_address import address_towards, checked_server, resolve_server
from tools.fleet.spec import FaultShare, FleetSpec, SpecError
from tools.fleet.summary import print_summary
from tools.options import DemoOptions

KEY = derived_key(KeyType.ECDSA_P256, 1, "test")
IMAGE = build_image(payload(5000, 1, 1), version=Version(2, 0, 0, 0), key=KEY, security_counter=1)

HANGS = 60.0  # what takes so long here will never end


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boot_seconds", "reboot_delay", "watchdog_seconds"):
        monkeypatch.setattr(f"agent.device.DeviceTiming.{name}", 0.0)
    monkeypatch.setattr(shard, "LOOK_INTERVAL", 0.01)


def demo_options(tmp_path: Path, devices: int = 4) -> DemoOptions:
    return DemoOptions(
        groups=(("lwm2m", devices),),
        image_size=4096,
        slot_size=64 << 10,
        ramp=1000,
        duration=HANGS,
        max_lag=ANY_LAG,
        report_dir=str(tmp_path / "report"),
        as_json=True,
    )


def run_spec(server: str, tmp_path: Path) -> FleetSpec:
    return FleetSpec(
        server=server,
        devices=3,
        names=("a", "b", "c"),
        image=IMAGE,
        keys=(KEY.public.to_pem(),),
        slot_size=64 << 10,
        ramp=1000,
        duration=HANGS,
        max_lag=ANY_LAG,
        report_dir=str(tmp_path / "report"),
    )


def test_a_demo_prints_one_object_and_writes_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.demo(demo_options(tmp_path)) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["devices"], document["updated"]) == (4, 4)
    assert document["audit"] == {"agree": 4, "differ": 0, "unknown": 0}
    assert document["by_protocol"]["lwm2m"]["updated"] == 4
    written = json.loads((tmp_path / "report" / "report.json").read_text())
    assert written["exit_code"] == 0
    assert written["counters"]["datagrams_in"] > 0
    assert "all updated and the audit agrees" in said.err


def test_devices_that_refuse_are_believed_to_have_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(demo_options(tmp_path, 2), faults=(FaultShare("counter-bump"),))
    code = demo.demo(options)
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == 2
    assert document["audit"]["differ"] == 0
    assert code == 3


async def test_a_run_against_a_server_whose_operator_starts_the_update(tmp_path: Path) -> None:
    async with Runtime.real() as runtime:
        backend = Backend(runtime, BackendConfig(timing="immediate", pilot_waived=True))
        await backend.start()
        try:
            host, port = backend.coap_address
            spec = commands.prepared(run_spec(f"coap://{host}:{port}", tmp_path))
            running = asyncio.create_task(commands._run(spec))
            async with asyncio.timeout(HANGS):
                while len(backend.unknown_identities()) < 3:
                    await asyncio.sleep(0)
            package = await backend.add_package(IMAGE, name="p", version="2.0.0")
            await backend.create_campaign(spec.names, package)
            result = await running
        finally:
            await backend.stop()
    assert result.counts.updated == 3
    # What the server believes is what it read, observed and executed: nothing was asked of it.
    assert (result.audit.agree, result.audit.differ, result.audit.unknown) == (3, 0, 0)


async def test_why_devices_are_without_their_server_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocols.http.poller.FIRST_POLL_SPREAD", 0.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        spec = commands.prepared(replace(run_spec(url, tmp_path), protocol="http"))
        async with shard.open_shard(spec) as running, asyncio.timeout(HANGS):
            await running.start()
            while sum(running.snapshot().troubles.values()) < 3:
                await asyncio.sleep(0)
            result = join("run", [spec], [running.snapshot()], seconds=1.0)
    assert result.counts.unfinished == 3
    reason = f"failed: unreachable (connect): {url}: Connection refused"
    assert report_document(result)["without_server"] == {reason: 3}
    page = io.StringIO()
    print_summary(result, Console(file=page, width=200), None)
    assert f"without their server: 3 {reason}" in page.getvalue()


async def test_a_server_that_is_not_there_is_a_result(tmp_path: Path) -> None:
    spec = commands.prepared(replace(run_spec("coap://127.0.0.1:9", tmp_path), duration=0.05))
    result = await commands._run(spec)
    assert result.counts.unfinished == 3
    assert result.audit.unknown == 3
    assert result.error is None


def test_a_factory_image_that_would_not_boot_is_bad_input(tmp_path: Path) -> None:
    spec = replace(run_spec("coap://127.0.0.1:9", tmp_path), running=b"nonsense")
    with pytest.raises(UnusableInput, match="--running"):
        commands.prepared(spec)


@pytest.mark.parametrize(
    ("what", "changes", "says"),
    [
        ("server", {"server": "ftp://h"}, "not 'ftp'"),
        ("server", {"server": "http://name:word@h"}, "a user name"),
        ("server", {"protocol": "aws"}, "mqtt"),
        ("options", {"options": (("nonsense", "1"),)}, "no option 'nonsense'; known: .*interval"),
        ("options", {"options": (("interval", "x"),)}, "interval is a number of seconds"),
        ("credentials", {"credentials": (Credential(authorities=b"no PEM"),) * 3}, "authorities"),
        (
            "misbehave",
            {"protocol": "mender", "misbehave": ((Misbehaviour.LATE_REPORT, 0.0001),)},
            "mender devices cannot do late-report",
        ),
    ],
)
def test_what_devices_would_refuse_is_said_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    changes: dict[str, Any],
    says: str,
) -> None:
    spec = replace(run_spec("http://127.0.0.1:9", tmp_path), protocol="http")
    with pytest.raises(UnusableSettings, match=says) as raised:
        commands.run(replace(spec, **changes), as_json=False)
    assert raised.value.what == what
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize(
    ("driver", "changes", "what"),
    [
        ("hawkbit", {"options": (("nonsense", "1"),)}, "options"),
        ("goosebit", {"options": (("poll", "soon"),)}, "options"),
        ("mender", {"misbehave": ((Misbehaviour.LATE_REPORT, 0.0001),)}, "misbehave"),
        ("thingsboard", {"options": (("interval", "soon"),)}, "options"),
    ],
)
def test_what_driven_devices_would_refuse_costs_their_server_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    driver: str,
    changes: dict[str, Any],
    what: str,
) -> None:
    for name in ("USER", "PASSWORD"):
        monkeypatch.setenv(f"FOTILLA_{driver.upper()}_{name}", "word")
    # Nobody listens there: whatever is sent fails as unreachable.
    spec = replace(run_spec("http://127.0.0.1:9", tmp_path), **changes)
    with pytest.raises(UnusableSettings) as raised:
        commands.run_driven(spec, driver, {}, as_json=False)
    assert raised.value.what == what
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("driver", ["hawkbit", "goosebit", "mender", "thingsboard"])
def test_driven_devices_with_nothing_wrong_get_as_far_as_their_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    for name in ("USER", "PASSWORD"):
        monkeypatch.setenv(f"FOTILLA_{driver.upper()}_{name}", "word")
    spec = run_spec("http://127.0.0.1:9", tmp_path)
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        commands.run_driven(spec, driver, {}, as_json=False)


@pytest.mark.parametrize("protocol", ["http", "lwm2m", "hawkbit"])
def test_a_server_whose_name_nobody_knows_is_said_at_the_start(
    tmp_path: Path, protocol: str
) -> None:
    scheme = "coap" if protocol == "lwm2m" else "http"
    spec = replace(run_spec(f"{scheme}://nowhere.invalid", tmp_path), protocol=protocol)
    with pytest.raises(SpecError, match=r"server: 'nowhere\.invalid' has no address"):
        commands.run(spec, as_json=False)


def test_a_name_is_kept_and_one_behind_a_proxy_is_not_looked_up() -> None:
    assert checked_server("http://localhost:8080/a", "http", {}) == "http://localhost:8080/a"
    assert checked_server("coap://localhost", "lwm2m", {}).startswith("coap://127.")
    unknown, proxy = "http://nowhere.invalid", {"proxy": "http://localhost:3128"}
    assert checked_server(unknown, "http", proxy) == unknown


def test_links_that_are_not_limited_are_not_said_to_be(tmp_path: Path) -> None:
    spec = replace(run_spec("coap://127.0.0.1:9", tmp_path), bandwidth=1000.0)
    with pytest.raises(UnusableSettings, match="the links of LwM2M devices have no limit"):
        commands.run(spec, as_json=False)
    with pytest.raises(SpecError, match="bandwidth: .*add devices that can"):
        demo.demo(replace(demo_options(tmp_path), bandwidth=1000.0))


def test_a_driver_says_what_its_devices_speak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOTILLA_HAWKBIT_USER", "user")
    monkeypatch.setenv("FOTILLA_HAWKBIT_PASSWORD", "word")
    spec = replace(run_spec("http://127.0.0.1:9", tmp_path), protocol="mender")
    with pytest.raises(SpecError, match="protocol: devices of --drive hawkbit speak hawkbit"):
        commands.run_driven(spec, "hawkbit", {}, as_json=False)


def test_a_demo_of_lwm2m_alone_does_not_pass_over_misbehaviour(tmp_path: Path) -> None:
    options = replace(demo_options(tmp_path), misbehave=((Misbehaviour.LATE_REPORT, 1.0),))
    wrong = "misbehave: lwm2m devices cannot do late-report; they always behave"
    with pytest.raises(SpecError, match=wrong):
        demo.demo(options)


def test_secrets_among_the_options_stay_out_of_the_report(tmp_path: Path) -> None:
    given = (("tenant_token", "s3cret"), ("interval", "5"))
    spec = replace(run_spec("http://h", tmp_path), options=given)
    assert settings_of([spec])["options"] == "tenant_token=..., interval=5"


def test_names_are_looked_up_once_and_before_anything_starts() -> None:
    assert resolve_server("coap://localhost:5683").startswith("coap://127.")
    assert resolve_server("coap://[::1]:5683") == "coap://[::1]:5683"
    with pytest.raises(SpecError, match=r"'nowhere\.invalid' has no address"):
        resolve_server("coap://nowhere.invalid:5683")
    with pytest.raises(SpecError, match="has no address"):
        resolve_server(f"coap://{'x' * 70}.invalid")
    assert address_towards("coap://127.0.0.1:5683") == "127.0.0.1"


async def test_the_image_is_served_where_the_url_says() -> None:
    async with Runtime.real() as runtime:
        server = ImageServer(runtime, IMAGE, "127.0.0.1", 0)
        client = CoapEndpoint(runtime)
        try:
            answer = await client.fetch(parse_uri(server.url))
            assert answer.payload == IMAGE
            wrong = await client.fetch(parse_uri(server.url + "x"))
            assert wrong.code == Code.NOT_FOUND
            refused = await client.fetch(parse_uri(server.url), code=Code.POST)
            assert refused.code == Code.METHOD_NOT_ALLOWED
        finally:
            client.close()
            server.close()


async def test_the_url_is_told_and_its_port_is_free_afterwards(tmp_path: Path) -> None:
    told = io.StringIO()
    spec = replace(run_spec("coap://127.0.0.1:9", tmp_path), serve_image=True)
    async with Runtime.real() as runtime:
        with commands._served_image(runtime, spec, Progress("run", told)):
            url = told.getvalue().strip().rpartition(" ")[2]
            port = parse_uri(url).port
        again = ImageServer(runtime, IMAGE, "127.0.0.1", port)
        again.close()
    assert url == f"coap://127.0.0.1:{port}/image"
