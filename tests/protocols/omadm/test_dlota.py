"""DLOTA: descriptors of every kind, HEAD and GET, authentication, install-notify."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.faults import FaultPlan
from agent.outcome import Outcome
from agent.update import State
from protocols.omadm.descriptor import (
    CONTENT_TYPE,
    MAX_DESCRIPTOR,
    NOTIFY_STATUS,
    BadDescriptor,
    NotifyStatus,
    parse,
)
from protocols.omadm.dlota import DESCRIPTOR_OUTCOME
from protocols.omadm.personas import PERSONAS
from tests.agent.parts import image
from tests.protocols.omadm.dm_world import FILES, NEW, World, order, run
from tests.protocols.omadm.musts import musts

URL = f"{FILES}/new.dd"


def descriptor(
    size: int | None = len(NEW),
    uri: str | None = "new.bin",
    types: tuple[str, ...] = ("application/octet-stream",),
    notify: str = "/notify",
    more: str = "",
) -> bytes:
    parts = [f"<type>{one}</type>" for one in types]
    if size is not None:
        parts.append(f"<size>{size}</size>")
    if uri is not None:
        parts.append(f"<objectURI>{uri}</objectURI>")
    if notify:
        parts.append(f"<installNotifyURI>{notify}</installNotifyURI>")
    body = "".join(parts) + more
    return (
        '<?xml version="1.0"?>'
        f'<media xmlns="http://www.openmobilealliance.org/xmlns/dd">{body}</media>'
    ).encode()


def serve(world: World, body: bytes, kind: str = CONTENT_TYPE) -> None:
    world.files.files["/new.dd"] = (kind, body)


def fetched(
    body: bytes, *, kind: str = CONTENT_TYPE, prepare: object = None, **arguments: object
) -> tuple[World, str]:
    """The world after an order of this descriptor, and the result that was reported."""

    async def story(world: World) -> None:
        serve(world, body, kind)
        if callable(prepare):
            prepare(world)
        world.server.packages.append(order(URL))
        await world.until(lambda: bool(world.reports()), 20_000.0)

    world = run(story, **arguments)  # type: ignore[arg-type]
    return world, str(world.reports()[-1].items[0].data)


# -- the descriptor -----------------------------------------------------------------------------


@musts("DM-151")
def test_everything_that_a_descriptor_says() -> None:
    more = (
        "<nextURL>n</nextURL><DDVersion>1.1</DDVersion><name>a &amp; b</name><vendor>v</vendor>"
        "<description>d</description><infoURL>i</infoURL><iconURI>c</iconURI><unknown><x/></unknown>"
        "<installParam>updateFwV=2; priorityflag=critical</installParam>"
    )
    found = parse(descriptor(types=("a/b", "c/d"), more=more))
    assert found.types == ("a/b", "c/d")
    assert (found.size, found.object_uri) == (len(NEW), "new.bin")
    assert (found.next_url, found.version, found.name) == ("n", "1.1", "a & b")
    assert (found.vendor, found.description, found.info_url, found.icon_uri) == ("v", "d", "i", "c")
    assert found.flag("priorityflag") == "critical"
    assert found.flag("updateFwV") == "2"
    assert found.flag("other") is None


@musts("DM-150", "DM-152")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 906),
        (b"not xml", 906),
        (b"<media/>", 906),
        (b"<html/>", 906),
        (descriptor(size=None), 906),
        (descriptor(uri=None), 906),
        (descriptor(types=()), 906),
        (descriptor().replace(b"<size>", b"<size>-"), 906),
        (descriptor(more="<x>" * 9 + "</x>" * 9), 906),
        (descriptor(more=f"<name>{'x' * 3000}</name>"), 906),
        (descriptor(more="<type>t</type>" * 40), 906),
        (b"x" * (MAX_DESCRIPTOR + 1), 906),
        (b'<!DOCTYPE media [<!ENTITY a "b">]>' + descriptor()[21:], 906),
        (b'<!DOCTYPE media SYSTEM "file:///etc/hostname">' + descriptor()[21:], 906),
        (descriptor(more="<name>&a;</name>"), 906),
        (descriptor(more="<DDVersion>2.0</DDVersion>"), 951),
        (descriptor(types=("text/html",)), 953),
    ],
)
def test_descriptors_that_cannot_be_used(body: bytes, status: int) -> None:
    with pytest.raises(BadDescriptor) as caught:
        parse(body, ("application/octet-stream",))
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_any_octets(data: bytes) -> None:
    for body in (data, descriptor()[:200] + data, descriptor().replace(b"new.bin", data)):
        try:
            parse(body)
        except BadDescriptor as bad:
            assert bad.status in NotifyStatus


@musts("DM-153")
@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_status(outcome: Outcome) -> None:
    expected = {
        Outcome.SUCCESS: 900,
        Outcome.CANCELLED: 902,
        Outcome.DEFERRED: None,
        Outcome.NO_SPACE: 901,
        Outcome.OUT_OF_MEMORY: 901,
        Outcome.CONNECTION_LOST: 903,
        Outcome.INTEGRITY: 905,
        Outcome.BAD_URI: 954,
        Outcome.UNSUPPORTED_PROTOCOL: 954,
        Outcome.INSTALL_FAILED: 952,
        Outcome.REVERTED: 952,
    }
    assert NOTIFY_STATUS[outcome] == expected.get(outcome, 953)
    assert NotifyStatus.SUCCESS.line == "900 Success"
    assert set(DESCRIPTOR_OUTCOME) == {
        NotifyStatus.INVALID_DESCRIPTOR,
        NotifyStatus.INVALID_VERSION,
        NotifyStatus.NON_ACCEPTABLE_CONTENT,
    }


# -- the whole story ----------------------------------------------------------------------------


@musts("DM-153")
def test_an_update_by_descriptor() -> None:
    world, result = fetched(descriptor())
    assert result == "200"
    assert world.version == "2.0.0"
    assert world.files.notified == ["900 Success"]
    paths = [(method, path) for method, path, _ in world.files.asked]
    assert paths == [
        ("HEAD", "/new.dd"),
        ("GET", "/new.dd"),
        ("GET", "/new.bin"),
        ("POST", "/notify"),
    ]


@musts("DM-155")
def test_a_package_without_a_descriptor_tells_nobody() -> None:
    world, result = fetched(NEW, kind="application/octet-stream")
    assert result == "200"
    assert world.files.notified == []


def test_a_server_without_head() -> None:
    def prepare(world: World) -> None:
        world.files.head = 405

    world, result = fetched(descriptor(), prepare=prepare)
    assert result == "200"
    assert [method for method, _, _ in world.files.asked][:3] == ["HEAD", "GET", "GET"]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("failures", "result"),
    [
        (5, "200"),
        # Nobody ever learned that it is a descriptor: it is not taken for a package.
        (1000, "500"),
    ],
)
def test_a_server_that_is_down_for_a_while(failures: int, result: str, broken: bool) -> None:
    left = failures

    def on_get(
        method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str]] | None:
        nonlocal left
        if path != "/new.dd" or not left:
            return None
        left -= 1
        if broken:
            raise ConnectionResetError
        return 503, {"content-type": "application/json", "retry-after": "1"}

    def prepare(world: World) -> None:
        world.files.on_get = on_get

    world, told = fetched(descriptor(), prepare=prepare)
    assert told == result
    assert world.version == ("2.0.0" if result == "200" else "1.0.0")


@musts("DM-150", "DM-152")
@pytest.mark.parametrize(
    ("body", "result", "told"),
    [
        (descriptor(size=len(NEW) - 1), "402", "905 Attribute Mismatch"),
        (descriptor(size=len(NEW) + 1), "402", "905 Attribute Mismatch"),
        (descriptor(size=10_000_000), "501", "901 Insufficient Memory"),
        (descriptor(uri="missing"), "411", "954 Loader Error"),
        (descriptor(uri="ftp://files.test/x"), "411", "954 Loader Error"),
        (descriptor(uri="http://["), "411", "954 Loader Error"),
        (descriptor(size=None), "402", "906 Invalid Descriptor"),
        (descriptor(more="<DDVersion>3.0</DDVersion>"), "405", "951 Invalid DDVersion"),
    ],
)
def test_what_goes_wrong_is_told_both_servers(body: bytes, result: str, told: str) -> None:
    world, reported = fetched(body)
    assert reported == result
    assert world.files.notified == [told]
    assert world.version == "1.0.0"


def test_an_older_image_is_no_acceptable_content() -> None:
    old = image(1, 9000, 0)

    def prepare(world: World) -> None:
        world.files.files["/new.bin"] = ("application/octet-stream", old)

    world, result = fetched(descriptor(size=len(old)), prepare=prepare)
    assert result == "405"
    assert world.files.notified == ["953 Non-Acceptable Content"]


@musts("DM-152")
def test_types_that_a_persona_does_not_take() -> None:
    default = PERSONAS["default"]
    PERSONAS["picky"] = replace(
        default, name="picky", fumo=replace(default.fumo, types=("application/x-firmware",))
    )
    try:
        world, result = fetched(descriptor(), options={"persona": "picky"})
    finally:
        del PERSONAS["picky"]
    assert result == "405"
    assert world.files.notified == ["953 Non-Acceptable Content"]


@musts("DM-153")
@pytest.mark.parametrize("bad_boots", [0, 1])
def test_a_notify_after_the_update(bad_boots: int) -> None:
    world, result = fetched(
        descriptor(), options={"persona": "webview"}, faults=FaultPlan(bad_boots=bad_boots)
    )
    line = "952 Device Aborted" if bad_boots else "900 Success"
    assert world.files.notified == [line + " \n\r"]
    assert result == ("410" if bad_boots else "200")


@pytest.mark.parametrize("notify", ["", "http://[", "ftp://files.test/x", "http://gone.test/x"])
def test_a_notify_that_cannot_be_told_changes_nothing(notify: str) -> None:
    world, result = fetched(descriptor(notify=notify))
    assert result == "200"
    assert world.files.notified == []


def test_urgent_updates_do_not_wait() -> None:
    body = descriptor(more="<installParam>priorityflag=critical</installParam>")

    async def story(world: World) -> None:
        serve(world, body)
        world.server.packages.append(order(URL, root="./FwUpdate/Flash"))
        world.client.check_now()
        await world.until(lambda: world.version == "2.0.0", 600.0)

    run(story, options={"persona": "att"})


@musts("DM-154")
@pytest.mark.parametrize("cut", [1, 30_000, 50_000])
def test_a_reboot_goes_on_with_the_object(cut: int) -> None:
    async def story(world: World) -> None:
        serve(world, descriptor())
        world.server.packages.append(order(URL))
        await world.until(lambda: world.device.engine.offset >= cut)
        world.device.cut_power(5.0)
        await world.until(lambda: bool(world.reports()))

    world = run(story, bandwidth=8000.0)
    assert world.version == "2.0.0"
    assert [one.items[0].data for one in world.reports()] == ["200"]
    reads = [path for method, path, _ in world.files.asked if method == "GET"]
    assert reads == ["/new.dd", "/new.bin"] * 2


# -- authentication -----------------------------------------------------------------------------


class Guard:
    """A download server that wants to know who asks; it computes digests by itself."""

    def __init__(self, scheme: str, *, one_use: bool = False) -> None:
        self.scheme = scheme
        self.one_use = one_use
        self.nonce = 1
        self.counts: set[str] = set()
        self.passed: list[str] = []
        self.refused = 0

    def __call__(
        self, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str]] | None:
        given = headers.get("authorization", "")
        if self._right(method, path, given):
            self.passed.append(f"{method} {path}")
            return None
        self.refused += 1
        if self.scheme == "basic":
            return 401, {"www-authenticate": 'Basic realm="files"'}
        algorithm = "SHA-256" if self.scheme == "sha256" else "MD5"
        qop = "" if self.scheme == "old" else ', qop="auth,auth-int"'
        challenge = (
            f'Digest realm="a , b", nonce="n{self.nonce}", opaque="o", algorithm={algorithm}{qop}'
        )
        return 401, {"www-authenticate": f'{challenge}, Basic realm="x"'}

    def _right(self, method: str, path: str, given: str) -> bool:
        if self.scheme == "basic":
            return given == "Basic dXNlcjpjbGllbnQgc2VjcmV0"
        fields = dict(
            part.strip().replace('"', "").split("=", 1)
            for part in given.removeprefix("Digest ").replace("a , b", "a b").split(", ")
            if "=" in part
        )
        make = hashlib.sha256 if self.scheme == "sha256" else hashlib.md5

        def h(text: str) -> str:
            return make(text.encode()).hexdigest()

        secret, asked = h("user:a , b:client secret"), h(f"{method}:{path}")
        nonce = f"n{self.nonce}"
        if self.scheme == "old":
            return fields.get("response") == h(f"{secret}:{nonce}:{asked}")
        count = fields.get("nc", "")
        if count in self.counts:
            return False  # replayed
        wanted = h(f"{secret}:{nonce}:{count}:{fields.get('cnonce')}:auth:{asked}")
        if fields.get("response") != wanted or fields.get("opaque") != "o":
            return False
        self.counts.add(count)
        if self.one_use:
            self.nonce += 1
            self.counts.clear()
        return True


@pytest.mark.parametrize("scheme", ["digest", "sha256", "old"])
def test_a_download_server_with_digest(scheme: str) -> None:
    guard = Guard(scheme)

    def prepare(world: World) -> None:
        world.files.on_get = guard

    world, result = fetched(
        descriptor(),
        prepare=prepare,
        options={"download-auth": "device"},
        faults=FaultPlan(cut_downloads=(20_000, 40_000)),
    )
    assert result == "200"
    assert world.version == "2.0.0"
    assert guard.refused == 1
    assert guard.passed.count("GET /new.bin") == 3


def test_nonces_that_serve_once() -> None:
    guard = Guard("digest", one_use=True)

    def prepare(world: World) -> None:
        world.files.on_get = guard

    _, result = fetched(descriptor(), prepare=prepare, options={"download-auth": "device"})
    assert result == "200"
    assert guard.refused == 3


def test_basic_shows_nothing_over_plain_http() -> None:
    guard = Guard("basic")

    def prepare(world: World) -> None:
        world.files.on_get = guard

    world, result = fetched(descriptor(), prepare=prepare, options={"download-auth": "device"})
    assert result == "406"
    assert all("authorization" not in headers for _, _, headers in world.files.asked)


def test_nobody_is_told_who_we_are_unless_allowed() -> None:
    guard = Guard("digest")

    def prepare(world: World) -> None:
        world.files.on_get = guard

    world, result = fetched(descriptor(), prepare=prepare)
    assert result == "406"
    assert all("authorization" not in headers for _, _, headers in world.files.asked)


def test_a_wrong_account_is_refused_and_not_repeated_for_ever() -> None:
    refused: list[str] = []

    def on_get(method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        refused.append(method)
        return 401, {"www-authenticate": f'Digest realm="r", nonce="{len(refused)}", qop="auth"'}

    def prepare(world: World) -> None:
        world.files.on_get = on_get

    _, result = fetched(descriptor(), prepare=prepare, options={"download-auth": "device"})
    assert result == "406"
    assert len(refused) <= 8


def test_state_is_failed_after_a_refused_download() -> None:
    def prepare(world: World) -> None:
        world.files.on_get = lambda method, path, headers: (403, {})

    world, result = fetched(descriptor(), prepare=prepare)
    assert result == "406"
    assert world.device.engine.state is State.IDLE
