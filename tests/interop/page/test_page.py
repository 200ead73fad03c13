"""The page in a headless Chromium."""

from __future__ import annotations

import asyncio

from tests.interop.page.browser import Browser
from tests.interop.page.served import TOKEN, Served, imeis

ENTER, TAB = "\ue007", "\ue004"
NARROW = 360

IMAGE_TAG = "<img src=x onerror=\"window.hit='image'\">"
SCRIPT_TAG = "</script><script>window.hit='script'</script>"
LONG = "x" * 60


async def sign_in(chromium: Browser, served: Served, view: str = "#/campaigns") -> None:
    await chromium.open(served.entrance)
    await chromium.says("Sign out")
    if view != "#/campaigns":
        await go(chromium, view)


async def go(chromium: Browser, view: str) -> None:
    # The page listens to this event too, and did so before.
    await chromium.run(
        "const before = location.hash;"
        "location.hash = arguments[0];"
        "if (location.hash !== before)"
        "  return new Promise(done => addEventListener('hashchange', () => done(), {once: true}));",
        view,
    )
    await chromium.one("main h1")


async def live(chromium: Browser) -> None:
    """Wait for the feed."""
    await chromium.one(".live.open")


async def type_into(chromium: Browser, selector: str, text: str) -> None:
    field = await chromium.one(selector)
    await field.clear()
    await field.type(text)


async def too_wide(chromium: Browser) -> list[str]:
    """What reaches beyond the right edge, when the page can be scrolled sideways."""
    found = await chromium.run(
        "const edge = document.documentElement.clientWidth;"
        "if (document.documentElement.scrollWidth <= edge) return [];"
        "return [...document.querySelectorAll('body :not(thead, thead *)')]"
        ".filter(item => item.getBoundingClientRect().right > edge)"
        ".map(item => `${item.tagName} ${item.className} ${item.textContent.slice(0, 30)}`)"
    )
    return [str(item) for item in found]


async def test_wrong_token_then_the_right_one(chromium: Browser, served: Served) -> None:
    await chromium.open(served.url)
    await type_into(chromium, "#token", "not-the-token-at-all" + ENTER)
    await chromium.says("That is not the token.")
    assert not await (await chromium.one("#nav")).displayed()
    await type_into(chromium, "#token", TOKEN + ENTER)
    await chromium.says("No campaign.")
    await live(chromium)
    assert TOKEN not in await chromium.address()
    assert TOKEN not in await chromium.run("return document.documentElement.outerHTML")
    assert await chromium.run("return localStorage.length + document.cookie.length") == 0

    await chromium.reload()
    await chromium.says("No campaign.")
    await chromium.click("#leave")
    await chromium.says("Administrator's token")
    await chromium.reload()
    await chromium.says("Administrator's token")
    assert await chromium.run("return sessionStorage.length") == 0


async def test_token_in_the_fragment_is_taken_out_of_the_address(
    chromium: Browser, served: Served
) -> None:
    await sign_in(chromium, served)
    assert await chromium.address() == f"{served.url}#/campaigns"
    await chromium.open("about:blank")
    await chromium.open(f"{served.url}#token=some-other-token")
    await chromium.says("does not know this token")
    assert "some-other-token" not in await chromium.address()


async def test_running_campaign_changes_before_ones_eyes(chromium: Browser, served: Served) -> None:
    names = imeis(4)
    campaign = await served.campaign(names, "Spring update")
    await sign_in(chromium, served)
    await chromium.says("4 devices · 0 upgraded")
    await live(chromium)
    await chromium.run("window.still = true")

    served.switch_on(names[:2])
    await chromium.says("4 devices · 2 upgraded")
    await chromium.click(".campaign a")
    await chromium.one(".plot canvas")
    await live(chromium)
    served.switch_on(names[2:])
    await chromium.says("4 devices · 4 upgraded")
    await chromium.until(
        lambda: chromium.run(
            "return [...document.querySelectorAll('.head .chip')].some("
            "chip => chip.title === 'CampaignEnded: over' && chip.className === 'chip good')"
        ),
        "the campaign does not end on the page",
    )
    await chromium.says("Upgrade completed successfully")
    assert campaign.status == "CampaignEnded"
    assert await chromium.run("return window.still"), "the page was loaded again"

    # A campaign that is made now appears without a reload.
    await go(chromium, "#/campaigns")
    await live(chromium)
    await served.campaign(imeis(1, 350000000000900), "Made just now", "3.0.0")
    await chromium.says("Made just now")
    assert await chromium.run("return window.still")
    assert await chromium.console() == []


async def test_device_and_its_timeline(chromium: Browser, served: Served) -> None:
    [name] = imeis(1)
    await served.campaign([name], "Spring update")
    device = served.backend.inventory.devices[name]
    await served.backend.operator.attach(name, "cell-9", ("127.0.0.1", 9))
    await sign_in(chromium, served, "#/devices")
    await type_into(chromium, "#search", device.device_id[-6:])
    await chromium.says(device.name)
    await chromium.click("td a")
    await chromium.says("Attached to cell cell-9")
    await chromium.says("Asked for in campaign Spring update")
    await live(chromium)
    served.switch_on([name])
    await chromium.says("Attempt 1 of campaign Spring update began")
    await chromium.says("Upgrade completed successfully")
    assert await chromium.console() == []


async def test_devices_strings_are_never_markup(chromium: Browser, served: Served) -> None:
    backend = served.backend
    await backend.load_devices(
        [
            {
                "name": f"{IMAGE_TAG}{SCRIPT_TAG}",
                "deviceId": "350000000000077",
                "make": IMAGE_TAG,
                "model": SCRIPT_TAG,
                "firmware": f"javascript:window.hit='url'{IMAGE_TAG}",
            }
        ]
    )
    package = await backend.add_package(
        b"image", name=SCRIPT_TAG, version=IMAGE_TAG, make=IMAGE_TAG, model=SCRIPT_TAG
    )
    name = f"{IMAGE_TAG}{SCRIPT_TAG}"
    campaign = await backend.create_campaign([name], package, title=IMAGE_TAG + SCRIPT_TAG)
    await backend.operator.attach(name, IMAGE_TAG, ("127.0.0.1", 9))

    await sign_in(chromium, served)
    views = ("#/campaigns", f"#/campaigns/{campaign.id}", "#/devices?search=onerror", "#/cells")
    for view in (*views, "#/devices/350000000000077", "#/callbacks"):
        await go(chromium, view)
        if view != "#/callbacks":
            await chromium.says(IMAGE_TAG)
    await go(chromium, "#/devices")
    await type_into(chromium, "#search", IMAGE_TAG)
    await chromium.says(SCRIPT_TAG)
    await chromium.says("350000000000077")
    await type_into(chromium, "#search", SCRIPT_TAG)
    await chromium.says(IMAGE_TAG)
    await chromium.reload()
    await chromium.says(IMAGE_TAG)
    # An address is somebody else's text too.
    await go(chromium, f"#/campaigns/{IMAGE_TAG}")
    await chromium.says("Campaign does not exist")
    assert await chromium.run("return window.hit ?? null") is None
    assert await chromium.run("return document.querySelectorAll('img, iframe').length") == 0
    assert await chromium.run("return document.scripts.length") == 2
    problems = [line for line in await chromium.console() if "404" not in line]
    assert problems == []


async def test_narrow_window_never_scrolls_sideways(chromium: Browser, served: Served) -> None:
    names = [*imeis(60), LONG + "-" + LONG]
    await served.backend.load_devices(
        [{"name": names[-1], "deviceId": "350000000000888", "make": LONG, "model": LONG}]
    )
    campaign = await served.campaign(names[:-1], f"A title {LONG}{LONG}")
    await served.backend.operator.attach(names[0], LONG, ("127.0.0.1", 9))
    served.switch_on(names[:5])
    await sign_in(chromium, served)
    views = (
        "#/campaigns",
        f"#/campaigns/{campaign.id}",
        "#/devices",
        "#/devices/350000000000888",
        "#/devices/350000000000000",
        "#/cells",
        "#/callbacks",
    )
    for width in (NARROW, 640, 901, 1280):
        await chromium.resize(width)
        for scheme in ("light", "dark"):
            await chromium.prefer(scheme)
            for view in views:
                await go(chromium, view)
                await live(chromium)
                assert await too_wide(chromium) == [], (view, width)
    await chromium.resize(NARROW)
    await go(chromium, f"#/campaigns/{campaign.id}")
    for selector in (".plot canvas", ".legend button", ".members tr"):
        element = await chromium.one(selector)
        assert await element.displayed()
    await chromium.run("sessionStorage.clear(); location.reload()")
    await chromium.one("#token")
    assert (
        await chromium.run(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        <= 0
    )


async def test_restarted_backend_is_found_again(chromium: Browser, served: Served) -> None:
    await served.campaign(imeis(2), "Before the restart")
    await sign_in(chromium, served)
    await chromium.says("Before the restart")
    await live(chromium)
    await chromium.run("window.still = true")
    await served.stop()
    await chromium.says("Offline, trying again")
    await served.start()
    await served.campaign(imeis(1, 350000000000500), "After the restart", "3.0.0")
    await live(chromium)
    await chromium.says("After the restart")
    await chromium.says("Before the restart")
    assert await chromium.run("return window.still")
    await chromium.click(".campaign:last-child a")
    await chromium.says("Since the campaign was made")
    await chromium.says("not reachable so far")


async def test_devices_of_a_campaign_by_status_and_page(chromium: Browser, served: Served) -> None:
    names = imeis(70)
    campaign = await served.campaign(names, "Seventy")
    await sign_in(chromium, served, f"#/campaigns/{campaign.id}")
    await chromium.says("350000000000000")
    assert "350000000000060" not in await chromium.text()
    next_page = "[...document.querySelectorAll('.pager button')].at(-1)"
    await chromium.run(f"{next_page}.click()")
    await chromium.says("350000000000060")
    served.switch_on(names[:3])
    await chromium.says("3 upgraded")
    await chromium.click(".legend button[title=UpgradeSuccess]")
    await chromium.says("350000000000002")

    async def only_three() -> bool:
        return len(await chromium.all(".members tbody tr")) == 3

    await chromium.until(only_three, "the filter shows others too")
    await type_into(chromium, "#member", "0000001")

    async def only_one() -> bool:
        return len(await chromium.all(".members tbody tr")) == 1

    await chromium.until(only_one, "the search shows others too")


async def test_keyboard_alone_is_enough(chromium: Browser, served: Served) -> None:
    await served.campaign(imeis(1), "By keyboard")
    await chromium.open(served.url)
    await chromium.one("#token:focus")
    await chromium.press(*TOKEN, ENTER)
    await chromium.says("By keyboard")
    await chromium.reload()
    await chromium.says("By keyboard")
    await chromium.press(TAB)
    assert await chromium.run("return document.activeElement.className") == "skip"
    for _ in range(20):
        await chromium.press(TAB)
        if await chromium.run("return document.activeElement.textContent") == "By keyboard":
            break
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert await chromium.run(outline) == "solid"
    await chromium.press(ENTER)
    await chromium.says("State over time")
    assert await chromium.run("return document.activeElement.id") == "main"


async def test_focus_survives_what_changes_around_it(chromium: Browser, served: Served) -> None:
    names = imeis(4)
    campaign = await served.campaign(names, "Focused")
    await sign_in(chromium, served, f"#/campaigns/{campaign.id}")
    await chromium.says("350000000000002")
    await live(chromium)
    await chromium.run("document.querySelector('.members a[href$=\"0002\"]').focus()")
    served.switch_on(names)
    await chromium.says("4 upgraded")
    await chromium.says("Upgrade completed successfully")
    assert await chromium.run("return document.activeElement.textContent") == "350000000000002"
    await go(chromium, "#/campaigns")
    await live(chromium)
    await chromium.run("document.querySelector('.campaign a').focus()")
    await served.campaign(imeis(1, 350000000000900), "One more", "3.0.0")
    await chromium.says("One more")
    assert await chromium.run("return document.activeElement.textContent") == "Focused"


async def test_layout_stays_where_it_is(chromium: Browser, served: Served) -> None:
    campaign = await served.campaign(imeis(30), "Steady")
    await sign_in(chromium, served, f"#/campaigns/{campaign.id}")
    await chromium.reload()
    await chromium.says("350000000000000")
    await live(chromium)
    await chromium.run(
        "window.shift = 0; new PerformanceObserver(list => { for (const entry of list.getEntries())"
        " if (!entry.hadRecentInput) window.shift += entry.value; })"
        ".observe({type: 'layout-shift', buffered: true})"
    )
    served.switch_on(imeis(5))
    await chromium.says("5 upgraded")
    await asyncio.sleep(0.5)
    # Up to 0.1 counts as good (web.dev, Cumulative Layout Shift).
    assert await chromium.run("return window.shift") < 0.1


async def test_event_parser_follows_the_standard(chromium: Browser, served: Served) -> None:
    """Section 9.2.6 of the HTML standard, however the stream is cut into pieces."""
    stream = (
        ': a comment\n\nid: 1-7\r\nevent: campaign\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
        "data:no space\rid\rretry: 5\r\revent: empty\n\ndata: last\nid: 1-8\n\ndata: unfinished\n"
    )
    await chromium.open(served.url)
    for size in range(1, 12):
        found = await chromium.run(
            "return import('/page/feed.js').then(({ EventParser }) => {"
            "  const events = [];"
            "  const parser = new EventParser((kind, data) => "
            "    events.push([kind, data, parser.lastId]));"
            "  for (let at = 0; at < arguments[0].length; at += arguments[1])"
            "    parser.push(arguments[0].slice(at, at + arguments[1]));"
            "  return events;"
            "});",
            stream,
            size,
        )
        assert found == [
            ["campaign", '{"a":\n1}', "1-7"],
            ["message", "no space", ""],
            ["message", "last", "1-8"],
        ], size
