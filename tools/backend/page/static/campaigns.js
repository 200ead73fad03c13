// The list of campaigns, and one campaign with its state over time.

import { StateChart, bar, inOrder, swatch } from "./chart.js";
import {
  campaignLink, chip, deviceLink, empty, facts, fill, h, instant, label, number, pager, plural,
  setText, table, time,
} from "./dom.js";
import { paced, reader } from "./loading.js";
import { read } from "./session.js";

const windows = (list) => list.map(([start, end]) => `${start}–${end} h`).join(", ");
const version = (row) => (row.versionFrom ? `${row.versionFrom} → ${row.versionTo}` : row.versionTo);
const titled = (row) => row.title || row.package;

function sums(row) {
  const success = row.counts.UpgradeSuccess ?? 0;
  const failed = row.counts.UpgradeFailed ?? 0;
  return [
    plural(row.devices, "device", "devices"), `${number(success)} upgraded`,
    failed ? `${number(failed)} failed` : null, row.active ? `${number(row.active)} under way` : null,
  ].filter(Boolean).join(" · ");
}

// A campaign in the list; `update` changes only what is new.
function card(first) {
  const status = h("span", null);
  const progress = h("div", null);
  const text = h("p", { class: "soft" });
  const element = h("li", { class: "card campaign", data: { campaign: first.id } },
    h("div", { class: "head" }, h("h2", null, campaignLink(first.id, titled(first))), status),
    h("p", { class: "soft" },
      [`#${first.number}`, first.kind, first.protocol, `${first.package}, ${version(first)}`,
        `account ${first.account}`].join(" · ")),
    progress, text);
  const update = (row) => {
    fill(status, chip(row.status));
    fill(progress, bar(row.counts));
    setText(text, sums(row) + (row.final ? "" : ` · ends by ${instant(row.ends)}`));
  };
  update(first);
  return { element, update };
}

export function campaignsView(root, { parameters, failed, ready }) {
  const account = h("select", { id: "account" }, h("option", { value: "" }, "All accounts"));
  const running = h("input", { id: "running", type: "checkbox" });
  const list = h("ul", { class: "cards" });
  const foot = h("div", null);
  const overview = h("p", { class: "soft", aria: { live: "off" } }, "\u00a0");
  fill(root, h("h1", null, "Campaigns"), overview,
    h("form", { class: "filters", on: { submit: (event) => event.preventDefault() } },
      h("div", null, h("label", { for: "account" }, "Account"), account),
      h("label", { class: "check" }, running, "Only those that have not ended")),
    list, foot);

  let cards = new Map();
  let before = [null]; // where this page and those before it begin
  running.checked = parameters.has("running");

  const summary = reader((signal) => read("summary", {}, signal), (data) => {
    const under = data.campaigns.CampaignScheduled ?? 0;
    const all = Object.values(data.campaigns).reduce((sum, value) => sum + value, 0);
    setText(overview, `${plural(all, "campaign", "campaigns")}, ${number(under)} running · `
      + `${plural(data.devices, "device", "devices")} · timing ${data.timing}`);
    if (account.options.length !== data.accounts.length + 1) {
      const chosen = account.value;
      fill(account, h("option", { value: "" }, "All accounts"),
        data.accounts.map((name) => h("option", { value: name, selected: name === chosen }, name)));
    }
  }, failed);
  const page = reader((signal) => read("campaigns", {
    before: before.at(-1), account: account.value, running: running.checked }, signal), (data) => {
    cards = new Map(data.campaigns.map((row) => [row.id, card(row)]));
    fill(list, [...cards.values()].map((item) => item.element));
    fill(foot, data.campaigns.length ? null : empty("No campaign."),
      pager(before.length > 1, data.next !== null, (step) => {
        if (step > 0) before.push(data.next);
        else before.pop();
        page();
      }));
    ready();
  }, failed);
  const again = paced(1000, () => { summary(); page(); });
  const anew = () => { before = [null]; page(); };
  account.addEventListener("change", anew);
  running.addEventListener("change", anew);

  return {
    topic: "campaigns",
    refresh: again,
    on(kind, data) {
      if (kind === "changed") again();
      if (kind !== "campaign") return;
      const known = cards.get(data.id);
      if (known) known.update(data);
      else if (before.length === 1) again();
    },
    stop() { summary.stop(); page.stop(); again.stop(); },
  };
}

export function campaignView(root, { name, parameters, failed, ready }) {
  const head = h("div", { class: "head" });
  const meta = h("p", { class: "soft" });
  const sum = h("div", null);
  const legend = h("ul", { class: "legend" });
  const plot = h("div", { class: "plot" });
  const about = h("div", null);
  const changes = h("div", null);
  const members = h("div", { class: "members" });
  const search = h("input", { id: "member", type: "search", placeholder: "Device id", maxlength: "15" });
  fill(root,
    h("p", { class: "crumb" }, h("a", { href: "#/campaigns" }, "Campaigns")),
    head, meta, sum,
    h("section", { class: "card two" },
      h("div", null, h("h2", null, "State over time"), plot),
      h("div", null, h("h2", null, "Devices now"), legend)),
    h("section", { class: "card" }, h("h2", null, "Plan"), about),
    changes,
    h("section", { class: "card" },
      h("div", { class: "head" }, h("h2", null, "Devices"), h("div", { class: "filters tight" },
        h("label", { for: "member", class: "hidden" }, "Search by device id"), search)),
      members));

  const chart = new StateChart(plot);
  let history = null;
  let status = parameters.get("status") ?? "";
  let offsets = [0];
  let shown = ""; // the campaign's status that the plan was read with

  const numbers = (row) => {
    fill(head, h("h1", null, titled(row)), chip(row.status));
    setText(meta, [`Campaign #${row.number}`, row.kind, row.protocol, `account ${row.account}`,
      sums(row)].join(" · "));
    fill(sum, bar(row.counts));
    const names = inOrder(Object.keys(row.counts)).reverse();
    const choose = (text) => () => { status = text; offsets = [0]; numbers(row); rows(); };
    const entry = (text, box, title, count) => h("li", null, h("button", {
      type: "button", class: "pick", aria: { pressed: String(status === text) }, title: text || "All",
      on: { click: choose(text) } }, box, h("span", null, title), h("b", null, number(count))));
    // Rebuilt in place would lose the keyboard's focus; the button of that status gets it back.
    const focused = legend.contains(document.activeElement)
      ? document.activeElement.getAttribute("title") : null;
    fill(legend, entry("", h("i", { class: "swatch none" }), "All", row.devices),
      names.map((text) => entry(text, swatch(text), label(text), row.counts[text])));
    if (focused !== null) {
      [...legend.querySelectorAll("button")].find((item) => item.getAttribute("title") === focused)?.focus();
    }
  };
  const rows = reader((signal) => read(`campaigns/${encodeURIComponent(name)}/devices`, {
    status, offset: offsets.at(-1), search: search.value.trim() }, signal), (data) => {
    fill(members, data.members.length ? table(
      status ? `Devices in status ${label(status)}` : "Devices in all statuses",
      ["Device", "Status", "Reason", "Attempts", "Changed", "Next attempt"],
      data.members.map((member) => [
        member.known ? deviceLink(member.deviceId) : member.deviceId,
        h("span", null, chip(member.status),
          ["waiting", "done"].includes(member.position) ? null : h("small", null, ` ${member.position}`)),
        [member.reason, member.said ? h("small", null, ` (${member.said})`) : null],
        number(member.attempts), time(member.updated), time(member.next),
      ])) : empty("No such device."),
    pager(offsets.length > 1, data.next !== null, (step) => {
      if (step > 0) offsets.push(data.next);
      else offsets.pop();
      rows();
    }));
  }, failed);
  const detail = reader((signal) => read(`campaigns/${encodeURIComponent(name)}`, {}, signal), (data) => {
    numbers(data);
    history = data.history;
    chart.show(history);
    chart.say(data.since > data.created + 1
      ? `Since the backend was started, ${instant(data.since)}; what was before is not kept.`
      : "Since the campaign was made.");
    fill(about, facts([
      ["Package", `${data.package}, ${version(data)}`],
      ["For", `${data.make} ${data.model}`],
      ["Dates", `${data.startDate} to ${data.endDate}`],
      ["Made", time(data.created)], ["Starts", time(data.starts)], ["Ends", time(data.ends)],
      ["Windows", data.windows.length ? windows(data.windows) : "all day"],
      ["Install windows", windows(data.installWindows)],
      ["Download after", data.downloadAfter], ["Install after", data.installAfter],
      ["Path on the device", data.path], ["Devices at once", number(data.concurrency)],
      ["How devices are tried", data.plan.replaceAll("_", " ")],
      ["Adds devices itself", data.autoAdd ? "yes" : ""],
      ["Assigns licences itself", data.autoAssign ? "yes" : ""],
      ["SHA-256", h("code", null, data.digest), true],
    ]));
    fill(changes, data.changes.length ? h("section", { class: "card" },
      h("h2", null, "Status of the campaign"),
      h("ol", { class: "steps" }, data.changes.map((change) =>
        h("li", null, chip(change.status), " ", time(change.time))))) : null);
    shown = data.status;
    ready();
  }, failed);
  const later = paced(2000, () => rows());
  const whole = paced(1000, () => { detail(); later(); });
  search.addEventListener("input", paced(300, () => { offsets = [0]; rows(); }));

  return {
    topic: `campaign/${name}`,
    refresh: whole,
    on(kind, data) {
      if (kind !== "campaign" || !history) return;
      numbers(data);
      later();
      if (data.status !== shown || history.times.length > 1500) {
        whole();
        return;
      }
      // The end of the history goes on until the next full reading.
      history.times.push(data.now);
      for (const text of new Set([...Object.keys(history.counts), ...Object.keys(data.counts)])) {
        history.counts[text] ??= Array(history.times.length - 1).fill(0);
        history.counts[text].push(data.counts[text] ?? 0);
      }
      chart.show(history);
    },
    stop() { chart.stop(); rows.stop(); detail.stop(); later.stop(); whole.stop(); },
  };
}
