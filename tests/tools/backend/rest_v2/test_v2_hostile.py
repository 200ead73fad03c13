"""Bad input to v2 and v3: a documented error in the API's form, and nothing written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tools.backend.rest_world import (
    ACCOUNT,
    FORM,
    STORED,
    UPLOAD,
    V2,
    V3,
    rest_world,
)
from tests.tools.backend.rules_marker import rules
from tests.tools.backend.virtual import virtual
from tools.backend.administration import MAX_PACKAGE
from tools.backend.rest.body import MAX_JSON
from tools.backend.rest.fields import MAX_WINDOWS
from tools.backend.rest.v2_files import FORM_SLACK

FILES = f"{V2}/files/{ACCOUNT}"

# Every call with a JSON body, with the campaign that it is about.
JSON_CALLS = [
    ("POST", f"{V2}/campaigns/{ACCOUNT}"),
    ("POST", f"{V2}/campaigns/software/{ACCOUNT}"),
    ("POST", f"{V2}/campaigns/files/{ACCOUNT}"),
    ("PUT", f"{V2}/campaigns/{ACCOUNT}/%v2"),
    ("PUT", f"{V2}/campaigns/{ACCOUNT}/%v2/dates"),
    ("PUT", f"{V2}/logging/{ACCOUNT}/devices"),
    ("DELETE", f"{V2}/logging/{ACCOUNT}/devices"),
    ("POST", f"{V3}/campaigns/firmware/{ACCOUNT}"),
    ("PUT", f"{V3}/campaigns/firmware/{ACCOUNT}/%v3"),
    ("PUT", f"{V3}/campaigns/firmware/{ACCOUNT}/%v3/dates"),
    ("PUT", f"{V3}/campaigns/{ACCOUNT}/%v3"),
    ("PUT", f"{V3}/campaigns/{ACCOUNT}/%v3/dates"),
    ("PUT", f"{V3}/firmware/{ACCOUNT}/devices"),
    ("POST", f"{V3}/devices/{ACCOUNT}"),
]

BROKEN: list[tuple[bytes, str]] = [
    (b"", "Input binding error"),
    (b" \r\n", "Input binding error"),
    (b"{", "not JSON"),
    (b'{"a":1}}', "not JSON"),
    (b"{'a':1}", "not JSON"),
    (b"\xff\xfe{\x00}\x00", "not JSON"),
    (b"\xef\xbb\xbf{}", "not JSON"),
    (b'{"startDate":NaN}', "not JSON"),
    (b'{"startDate":Infinity}', "not JSON"),
    (b'{"x":"\\ud800"}', "not JSON"),
    (b'{"x":"\x00"}', "not JSON"),
    (b'{"x":' + b"9" * 5000 + b"}", "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "not JSON"),
    (b"[]", "object"),
    (b"null", "object"),
    (b'"text"', "object"),
    (b"7", "object"),
    (b"{}", "required"),
    (b"a=1&b=2", "not JSON"),
]


@virtual
async def test_broken_json() -> None:
    async with rest_world() as world:
        v2, v3 = await world.v2_campaign(), await world.v3_campaign()
        for method, path in JSON_CALLS:
            path = path.replace("%v2", v2).replace("%v3", v3)
            for body, text in BROKEN:
                # Whatever the client says that it is.
                for kind in ("application/json", "*/*", "text/xml"):
                    await world.refused(
                        method, path, text, content=body, headers={"Content-Type": kind}
                    )
                    if len(body) > 100:
                        break


@rules("BR-142", "BR-152")
@virtual
async def test_huge_bodies() -> None:
    async with rest_world() as world:
        v2, v3 = await world.v2_campaign(), await world.v3_campaign()
        blank = b" " * (MAX_JSON + 1)
        with world.unchanged():
            for method, path in JSON_CALLS:
                path = path.replace("%v2", v2).replace("%v3", v3)
                answer = await world.api.request(method, path, content=blank)
                assert answer.status_code == 413, path
                assert answer.json() == {
                    "errorCode": "REQUEST_ENTITY_TOO_LARGE",
                    "errorMessage": f"The request body is larger than {MAX_JSON} bytes",
                }
            for method in ("POST", "PUT"):
                answer = await world.api.request(
                    method,
                    FILES,
                    content=bytes(MAX_PACKAGE + FORM_SLACK + 1),
                    headers={"Content-Type": "multipart/form-data; boundary=x"},
                )
                assert answer.status_code == 413
                assert set(answer.json()) == {"errorCode", "errorMessage"}


@virtual
async def test_a_body_without_an_end_is_cut_off() -> None:
    """Nobody waits for the rest of a body that is too long already."""
    async with rest_world(0, 0, 0) as world:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while sent < 16 * MAX_JSON:
                sent += 1 << 20
                yield b" " * (1 << 20)
            raise AssertionError("read to its end")

        answer = await world.api.post(f"{V2}/campaigns/{ACCOUNT}", content=endless())
        assert answer.status_code == 413
        assert sent <= MAX_JSON + (2 << 20)


WINDOW = {"startTime": 1, "endTime": 5}
BAD_WINDOWS: list[Any] = [
    {"startTime": 5, "endTime": 5},
    {"startTime": 5, "endTime": 1},
    {"startTime": -1, "endTime": 5},
    {"startTime": 0, "endTime": 25},
    {"startTime": 24, "endTime": 25},
    {"startTime": "x", "endTime": 5},
    {"startTime": "-1", "endTime": 5},
    {"startTime": "٣", "endTime": 5},
    {"startTime": "1.5", "endTime": 5},
    {"startTime": "", "endTime": 5},
    {"startTime": " 1", "endTime": 5},
    {"startTime": "0001", "endTime": 5},
    {"startTime": 1.5, "endTime": 5},
    {"startTime": 1e300, "endTime": 5},
    {"startTime": True, "endTime": 5},
    {"startTime": None, "endTime": 5},
    {"startTime": [1], "endTime": 5},
    {"endTime": 5},
    {"startTime": 1},
    {},
    None,
    7,
    "1-5",
    [1, 5],
]
BAD_DATES: list[Any] = [
    "",
    "tomorrow",
    "2030-02-30",
    "2030-13-01",
    "2030-1-2",
    "20300102",
    "2030-W01-3",
    "2030-01-02T00:00:00Z",
    " 2030-01-02",
    "0000-00-00",
    "99999-01-01",
    "٢٠٣٠-٠١-٠٢",
    "2030-01-02\x00",
    "2" * 1000,
    20300102,
    1893542400.0,
    True,
    [],
    {},
]


@rules("BR-014")
@pytest.mark.parametrize("name", ["downloadTimeWindowList", "installTimeWindowList"])
@virtual
async def test_bad_windows_of_v2(name: str) -> None:
    async with rest_world() as world:
        campaign = await world.v2_campaign()
        dates = {"startDate": "2030-01-03", "endDate": "2030-01-09"}
        for bad in (*([item] for item in BAD_WINDOWS), [WINDOW] * (MAX_WINDOWS + 1), WINDOW, 7):
            for path, sent in (
                (f"campaigns/{ACCOUNT}", world.software()),
                (f"campaigns/software/{ACCOUNT}", world.software()),
            ):
                await world.refused("POST", f"{V2}/{path}", "", json={**sent, name: bad})
            path = f"{V2}/campaigns/{ACCOUNT}/{campaign}/dates"
            await world.refused("PUT", path, "", json={**dates, name: bad})


@rules("BR-014")
@virtual
async def test_bad_windows_of_v3() -> None:
    async with rest_world() as world:
        campaign = await world.v3_campaign()
        for bad in (*([item] for item in BAD_WINDOWS), [WINDOW] * (MAX_WINDOWS + 1), WINDOW, 7):
            sent = world.firmware(campaignTimeWindowList=bad)
            await world.refused("POST", f"{V3}/campaigns/firmware/{ACCOUNT}", "", json=sent)
            path = f"{V3}/campaigns/firmware/{ACCOUNT}/{campaign}/dates"
            await world.refused("PUT", path, "", json=sent)


@rules("BR-002")
@pytest.mark.parametrize("name", ["startDate", "endDate", "downloadAfterDate", "installAfterDate"])
@virtual
async def test_bad_dates(name: str) -> None:
    async with rest_world() as world:
        v2, v3 = await world.v2_campaign(), await world.v3_campaign()
        for bad in [*BAD_DATES, None]:
            if name.endswith("AfterDate") and bad in (None, ""):
                continue  # the same as not to say it
            sent = json.loads(json.dumps({**world.software(), name: bad}))
            for method, path in (
                ("POST", f"{V2}/campaigns/{ACCOUNT}"),
                ("PUT", f"{V2}/campaigns/{ACCOUNT}/{v2}/dates"),
            ):
                await world.refused(method, path, name, json=sent)
            if name.endswith("AfterDate"):
                continue
            for method, path in (
                ("POST", f"{V3}/campaigns/firmware/{ACCOUNT}"),
                ("PUT", f"{V3}/campaigns/firmware/{ACCOUNT}/{v3}/dates"),
            ):
                await world.refused(method, path, name, json=world.firmware(**{name: bad}))


BAD_TEXTS: list[dict[str, Any]] = [
    {"campaignName": "x" * 129},
    {"campaignName": "a\x00b"},
    {"campaignName": "a\nb"},
    {"campaignName": 7},
    {"deviceList": "350000000000000"},
    {"deviceList": [350000000000000]},
    {"deviceList": [None]},
    {"deviceList": ["35000000000000"]},
    {"deviceList": ["3500000000000000"]},
    {"deviceList": ["35000000000000x"]},
    {"deviceList": ["350000000000000\n"]},
    {"deviceList": ["٣" * 15]},
    {"deviceList": ["' OR 1=1 --aaaa"]},
]


@virtual
async def test_bad_names_and_devices() -> None:
    async with rest_world() as world:
        for changes in BAD_TEXTS:
            [name] = changes
            for path, sent in (
                (f"{V2}/campaigns/{ACCOUNT}", world.software(**changes)),
                (f"{V3}/campaigns/firmware/{ACCOUNT}", world.firmware(**changes)),
            ):
                text = "" if name == "deviceList" else name
                await world.refused("POST", path, text, json=sent)


@rules("BR-009", "BR-010")
@virtual
async def test_dates_of_a_campaign_that_runs() -> None:
    """v2 after the start: a new end at least 24 h away, windows only added."""
    async with rest_world() as world:
        windows = [{"startTime": 1, "endTime": 5}]
        campaign = await world.v2_campaign(
            startDate="2030-01-01", endDate="2030-01-07", downloadTimeWindowList=windows
        )
        path = f"{V2}/campaigns/{ACCOUNT}/{campaign}/dates"
        stored = {
            "startDate": "2030-01-01",
            "endDate": "2030-01-07",
            "downloadTimeWindowList": windows,
        }
        for changes, text in (
            ({"startDate": "2030-01-02"}, "startDate"),
            ({"endDate": "2029-12-31"}, "endDate"),
            ({"downloadTimeWindowList": []}, "only be added"),
            ({"downloadTimeWindowList": [{"startTime": 1, "endTime": 6}]}, "only be added"),
        ):
            await world.refused("PUT", path, text, json={**stored, **changes})
        await world.sleep(3600)
        async with world.again() as again:
            # The end of today is less than 24 hours away.
            await again.refused("PUT", path, "24 hours", json={**stored, "endDate": "2030-01-01"})
            more = [*windows, {"startTime": 7, "endTime": 9}]
            changed = await again.json(
                "PUT",
                path,
                "CampaignSoftware",
                json={**stored, "endDate": "2030-01-03", "downloadTimeWindowList": more},
            )
            assert (changed["endDate"], changed["downloadTimeWindowList"]) == ("2030-01-03", more)
            edit = {"Type": "remove", "deviceList": world.ids()[:1]}
            await again.refused("PUT", f"{V2}/campaigns/{ACCOUNT}/{campaign}", "started", json=edit)


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "...",
    "/",
    "a/",
    "a\\",
    "../..",
    "x" * 129,
    "a\tb",
    "a\x1bb",
    "\x7f",
]


@virtual
async def test_hostile_file_names_are_refused() -> None:
    async with rest_world(0, 0, 0) as world:
        await world.json("POST", FILES, "UploadConfigurationFilesResponse", data=FORM, files=UPLOAD)
        for name in HOSTILE_NAMES:
            body = raw_form({"fileupload": (name, b"x")}, FORM)
            await world.refused("POST", FILES, "file name", **body)
            await world.refused("PUT", f"{FILES}?fileName={STORED}", "file name", **body)


def raw_form(files: dict[str, tuple[str, bytes]], texts: dict[str, str | bytes]) -> dict[str, Any]:
    """A form as no client library would send it: nothing is escaped but the quote."""
    parts = []
    for field, value in texts.items():
        content = value.encode() if isinstance(value, str) else value
        head = f'Content-Disposition: form-data; name="{field}"\r\n\r\n'.encode()
        parts.append(head + content)
    for field, (name, content) in files.items():
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        head = f'Content-Disposition: form-data; name="{field}"; filename="{escaped}"\r\n\r\n'
        parts.append(head.encode() + content)
    body = b"".join(b"--bound\r\n" + part + b"\r\n" for part in parts) + b"--bound--\r\n"
    return {
        "content": body,
        "headers": {"Content-Type": "multipart/form-data; boundary=bound"},
    }


KEPT_NAMES = [
    ("../../etc/passwd", "passwd"),
    ("C:\\Users\\me\\apn.cfg", "apn.cfg"),
    ("/etc/./x..y", "x..y"),
    ('a"b;c', 'a"b;c'),
    ("naïve ☃.cfg", "naïve ☃.cfg"),
    ("-rf", "-rf"),
    ("%2e%2e%2f", "%2e%2e%2f"),
    ("<script>", "<script>"),
]


@virtual
async def test_of_a_path_only_the_last_part_is_kept() -> None:
    async with rest_world(0, 0, 0) as world:
        for sent, kept in KEPT_NAMES:
            stored = await world.json(
                "POST",
                FILES,
                "UploadConfigurationFilesResponse",
                **raw_form({"fileupload": (sent, b"x")}, FORM),
            )
            assert stored["fileName"] == f"configfile-fotilla_virtual_{kept}"


BAD_FORM_TEXTS: list[tuple[dict[str, str | bytes], str]] = [
    ({"distributionType": "LWM2M"}, "distributionType"),
    ({"distributionType": "GSM"}, "distributionType"),
    ({"distributionType": ""}, "distributionType"),
    ({"make": "a\x00b"}, "make"),
    ({"model": "x" * 65}, "model"),
    ({"fileVersion": ""}, "fileVersion"),
    ({"fileVersion": b"\xff"}, "fileVersion"),
    ({"localTargetPath": "/a\nb"}, "localTargetPath"),
    ({"localTargetPath": "/" * 256}, "localTargetPath"),
    ({"make": ""}, "make"),
]


@rules("BR-141")
@virtual
async def test_bad_texts_of_a_form() -> None:
    files = {"fileupload": ("a.cfg", b"x")}
    async with rest_world(0, 0, 0) as world:
        for texts, text in BAD_FORM_TEXTS:
            await world.refused("POST", FILES, text, **raw_form(files, {**FORM, **texts}))


BROKEN_FORMS = [
    ("", b"x"),
    ("application/json", b"{}"),
    ("multipart/form-data", b"--x--"),
    ("multipart/form-data; boundary=", b"--x--"),
    ("multipart/form-data; boundary=" + "x" * 500, b"--x--"),
    ("multipart/form-data; boundary=x", b""),
    ("multipart/form-data; boundary=x", b"--x"),
    ("multipart/form-data; boundary=x", b"--x\r\n"),
    ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
    ("multipart/form-data; boundary=x", b"--x\r\n" * 10_000),
    ("multipart/form-data; boundary=x", b"--x\r\nA: b\r\n\r\n\r\n" * 100 + b"--x--"),
    (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Disposition: form-data; name=" + b"a" * 100_000 + b"\r\n\r\n--x--",
    ),
]


@virtual
async def test_broken_forms() -> None:
    async with rest_world(0, 0, 0) as world:
        for content_type, body in BROKEN_FORMS:
            for method in ("POST", "PUT"):
                headers = {"Content-Type": content_type}
                await world.refused(method, FILES, "", content=body, headers=headers)


@rules("BR-137")
@virtual
async def test_a_change_of_a_file_keeps_what_identifies_it() -> None:
    async with rest_world(0, 0, 0) as world:
        path = f"{FILES}?fileName={STORED}"
        await world.refused("PUT", path, "does not exist", data=FORM, files=UPLOAD)
        form = {**FORM, "distributionType": "OMD-DM"}
        stored = await world.json(
            "POST", FILES, "UploadConfigurationFilesResponse", data=form, files=UPLOAD
        )
        assert stored["distributionType"] == "OMD-DM"
        for change in ({"make": "other"}, {"model": "other"}):
            [name] = change
            await world.refused("PUT", path, name, data={**FORM, **change}, files=UPLOAD)
        changed = await world.json(
            "PUT",
            path,
            "UploadConfigurationFilesResponse",
            data={**FORM, "fileVersion": "8", "localTargetPath": "/new"},
            files=UPLOAD,
        )
        assert changed == {**stored, "fileVersion": "8", "localTargetPath": "/new"}
        for distribution, count in (("OMD-DM", 1), ("OMA", 1), ("HTTP", 0), ("LWM2M", 0)):
            listed = await world.json(
                "GET",
                FILES,
                "RetrievesAvailableFilesResponseList",
                params={"distributionType": distribution},
            )
            assert len(listed["AvailableFilesResponse"]) == count
