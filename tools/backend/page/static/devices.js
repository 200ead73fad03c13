// The search for devices, and one device with its timeline.

import {
  NOTHING, Pages, campaignLink, chip, deviceLink, empty, facts, fill, h, instant, number, patch, plural, table,
  time,
} from "./dom.js";
import { paced, reader } from "./loading.js";
import { read } from "./session.js";

export function devicesView(root, { parameters, failed, ready }) {
  const search = h("input", {
    id: "search", type: "search", maxlength: "128", spellcheck: "false", autocomplete: "off",
    placeholder: "Id, name, make, model, version…",
  });
  const account = h("select", { id: "account" }, h("option", { value: "" }, "All accounts"));
  const list = h("div", null);
  search.value = parameters.get("search") ?? "";
  fill(root, h("h1", null, "Devices"),
    h("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      h("div", { class: "grow" }, h("label", { for: "search" }, "Search"), search),
      h("div", null, h("label", { for: "account" }, "Account"), account)),
    list);

  const pages = new Pages("", list, () => page());
  const summary = reader((signal) => read("summary", {}, signal), (data) => {
    fill(account, h("option", { value: "" }, "All accounts"), data.accounts.map((name) =>
      h("option", { value: name, selected: name === parameters.get("account") }, name)));
  }, failed);
  const page = reader((signal) => read("devices", {
    search: search.value.trim(), account: account.value, after: pages.place }, signal), (data) => {
    patch(list, data.devices.length ? table("Devices",
      ["Device", "Name", "Make and model", "Version", "Protocol", "Account"],
      data.devices.map((device) => [
        deviceLink(device.deviceId), device.name, `${device.make} ${device.model}`,
        device.firmware || NOTHING,
        [device.protocol, device.line === "active" ? null : h("small", null, ` ${device.line}`)],
        device.account,
      ])) : empty("No such device."),
    pages.buttons(data.next));
    ready();
  }, failed);
  const anew = paced(250, () => {
    // The address holds the search, so that a reload and a link show the same.
    const query = new URLSearchParams();
    if (search.value.trim()) query.set("search", search.value.trim());
    if (account.value) query.set("account", account.value);
    history.replaceState(null, "", `#/devices${query.size ? `?${query}` : ""}`);
    pages.reset();
    page();
  });
  search.addEventListener("input", anew);
  account.addEventListener("change", anew);

  return {
    topic: "clock", // devices are not told one by one
    async refresh() { await summary(); page(); },
    stop() { summary.stop(); page.stop(); anew.stop(); },
  };
}

const KINDS = {
  inventory: "Inventory", campaign: "Campaign", status: "Status", planned: "Planned",
  attempt: "Attempt", "check-in": "Check-in", log: "Log", network: "Network", message: "Message",
};

function entry(item) {
  const title = item.campaign ? campaignLink(item.campaign, item.title) : item.title;
  return h("li", { class: `entry ${item.kind}` },
    h("div", { class: "when" }, time(item.time),
      item.since === null ? null : h("small", null, ` since ${instant(item.since)}`)),
    h("div", { class: "kind" }, KINDS[item.kind] ?? item.kind),
    h("div", { class: "what" }, h("p", null, title, " ", item.status ? chip(item.status) : null),
      item.detail ? h("p", { class: "soft" }, item.detail) : null));
}

// What a device said last: numbers of LwM2M's object 5, words of other protocols.
function said(seen) {
  if (!seen) return "";
  const named = (name, value) => (/^\d+$/.test(value) ? `${name} ${value}` : value);
  const words = [named("State", seen.state), named("Result", seen.result),
    seen.version && `version ${seen.version}`].filter(Boolean).join(", ");
  return seen.source ? `${words} (${seen.source})` : words;
}

export function deviceView(root, { name, failed, ready }) {
  const body = h("div", null);
  fill(root, h("p", { class: "crumb" }, h("a", { href: "#/devices" }, "Devices")), body);

  const detail = reader((signal) => read(`devices/${encodeURIComponent(name)}`, {}, signal), (data) => {
    const where = data.attached;
    patch(body, h("h1", null, data.deviceId), h("p", { class: "soft" }, data.name),
      h("section", { class: "card" }, h("h2", null, "What is known"), facts([
        ["Make and model", `${data.make} ${data.model}`], ["Firmware", data.firmware || "not known"],
        ["Protocol", data.protocol], ["Account", data.account], ["Line", data.line],
        ["Mobile number", data.mdn], ["Package delivery", data.delivery],
        ["Licence", data.licensed ? "assigned" : "none"],
        ["Serving cell", where ? `${where.cell}, since ${instant(where.since)}` : "not attached"],
        ["Takes pushed messages", where && (where.push ? `at ${where.push}` : "no")],
        ["Short messages waiting", data.waitingMessages ? number(data.waitingMessages) : ""],
        ["Said last", said(data.seen)],
        ["Verbose logging until", data.loggingUntil && time(data.loggingUntil)],
        ["In the inventory since", time(data.created)],
        ["Upgraded last", data.upgraded && time(data.upgraded)],
      ])),
      h("section", { class: "card" }, h("h2", null, "Campaigns"), data.campaigns.length
        ? table("Campaigns of this device", ["Campaign", "Kind", "Campaign is", "Device is", "Reason", "Attempts"],
          data.campaigns.map((row) => [
            campaignLink(row.campaign, row.title || row.package), `${row.kind}, to ${row.versionTo}`,
            chip(row.status), chip(row.member.status), row.member.reason, number(row.member.attempts),
          ])) : empty("It is in no campaign.")),
      h("section", { class: "card" }, h("h2", null, "Timeline"),
        h("ol", { class: "timeline" }, data.timeline.map(entry)),
        data.truncated ? h("p", { class: "soft" },
          `The newest ${plural(data.timeline.length, "entry", "entries")}; there are more.`) : null));
    ready();
  }, failed);
  const again = paced(1000, () => detail());
  let beats = 0;

  return {
    topic: `device/${name}`,
    refresh: again,
    on(kind) {
      // Check-ins and logs are not told one by one; every other sign of life looks for them.
      if (kind === "changed" || (kind === "clock" && !document.hidden && ++beats % 2 === 0)) {
        again();
      }
    },
    stop() { detail.stop(); again.stop(); },
  };
}
