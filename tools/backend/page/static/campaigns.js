// The list of campaigns, and one campaign with its state over time.

import { StateChart, bar, inOrder, swatch } from "./chart.js";
import {
  Pages, campaignLink, chip, deviceLink, empty, facts, fill, h, instant, label, meaning, number, patch,
  plural, setText, table, time,
} from "./dom.js";
import { paced, reader } from "./loading.js";
import { read } from "./session.js";

const windows = (list) => list.map(([start, end]) => `${start}–${end} h`).join(", ");
const version = (row) => (row.versionFrom ? `${row.versionFrom} → ${row.versionTo}` : row.versionTo);
const titled = (row) => row.title || row.package;

function sums(row) {
  const success = row.counts.UpgradeSuccess ?? 0;
  const others = [["UpgradeFailed", "failed"], ["DeviceRejected", "rejected"],
    ["CampaignCancelled", "cancelled"], ["CampaignAborted", "aborted"]];
  return [
    plural(row.devices, "device", "devices"), `${number(success)} upgraded`,
    ...others.map(([status, word]) =>
      (row.counts[status] ? `${number(row.counts[status])} ${word}` : null)),
    row.active ? `${number(row.active)} under way` : null,
  ].filter(Boolean).join(" · ");
}

// The status of a campaign; that it has ended says nothing of how.
function outcome(row) {
  if (row.status !== "CampaignEnded") return chip(row.status);
  if (!row.counts.UpgradeSuccess) return chip(row.status, "bad");
  return chip(row.status, row.counts.UpgradeFailed ? "warn" : "good");
}

// When it will start, or be over at the latest.
const BEFORE = ["CampaignRequestPending", "CampaignRequestQueued", "CampaignPreScheduled"];
function until(row) {
  if (row.final) return "";
  const start = BEFORE.includes(row.status) ? ` · starts ${instant(row.starts)}` : "";
  return `${start} · ends by ${instant(row.ends)}`;
}

const PLANS = {
  windows: "in its windows, again until its end",
  nightly: "at 00:00 and 04:00, for three days",
  network_aware: "once, again at each power-up after a failure",
  one_attempt: "once, the network keeps the message for hours",
  pull: "whenever they check in",
  notified_files: "by a message, again in its windows",
};

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
    patch(status, outcome(row));
    patch(progress, bar(row.counts));
    setText(text, sums(row) + until(row));
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
  const pages = new Pages(null, foot, () => page());
  const page = reader((signal) => read("campaigns", {
    before: pages.place, account: account.value, running: running.checked }, signal), (data) => {
    const known = cards;
    cards = new Map(data.campaigns.map((row) => [row.id, known.get(row.id) ?? card(row)]));
    for (const row of data.campaigns) cards.get(row.id).update(row);
    // Those that stay are not touched: they may have the keyboard's focus.
    for (const [id, item] of known) if (!cards.has(id)) item.element.remove();
    [...cards.values()].forEach(({ element }, index) => {
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    });
    patch(foot, data.campaigns.length ? null : empty("No campaign."), pages.buttons(data.next));
    ready();
  }, failed);
  const again = paced(1000, () => { summary(); page(); });
  const anew = () => { pages.reset(); page(); };
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
      else if (pages.atFirst) again();
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
  let shown = ""; // the campaign's status that the plan was read with

  const numbers = (row) => {
    patch(head, h("h1", null, titled(row)), outcome(row));
    setText(meta, [`Campaign #${row.number}`, row.kind, row.protocol, `account ${row.account}`,
      sums(row)].join(" · "));
    patch(sum, bar(row.counts));
    const names = inOrder(Object.keys(row.counts)).reverse();
    const entry = (text, box, title, count) => h("li", null, h("button", {
      type: "button", class: "pick", aria: { pressed: String(status === text) },
      title: text || "All", data: { status: text } },
    box, h("span", null, title, meaning(text) ? h("small", null, meaning(text)) : null),
    h("b", null, number(count))));
    patch(legend, entry("", h("i", { class: "swatch none" }), "All", row.devices),
      names.map((text) => entry(text, swatch(text), label(text), row.counts[text])));
  };
  legend.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    status = button.dataset.status;
    for (const other of legend.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    pages.reset();
    rows();
  });
  const pages = new Pages(0, members, () => rows());
  const rows = reader((signal) => read(`campaigns/${encodeURIComponent(name)}/devices`, {
    status, offset: pages.place, search: search.value.trim() }, signal), (data) => {
    patch(members, data.members.length ? table(
      status ? `Devices in status ${label(status)}` : "Devices in all statuses",
      ["Device", "Status", "Reason", "Attempts", "Changed", "Next attempt"],
      data.members.map((member) => [
        member.known ? deviceLink(member.deviceId) : member.deviceId,
        h("span", null, chip(member.status),
          ["waiting", "done"].includes(member.position) ? null : h("small", null, ` ${member.position}`)),
        [member.reason, member.said ? h("small", null, ` (${member.said})`) : null],
        number(member.attempts), time(member.updated), time(member.next),
      ])) : empty("No such device."),
    pages.buttons(data.next));
  }, failed);
  const detail = reader((signal) => read(`campaigns/${encodeURIComponent(name)}`, {}, signal), (data) => {
    numbers(data);
    history = data.history;
    chart.show(history);
    chart.say(data.since > data.created
      ? `Since ${instant(data.since)}: its database is older than such histories.`
      : "Since the campaign was made.");
    patch(about, facts([
      ["Package", `${data.package}, ${version(data)}`],
      ["For", `${data.make} ${data.model}`],
      ["Dates", `${data.startDate} to ${data.endDate}`],
      ["Made", time(data.created)], ["Starts", time(data.starts)], ["Ends", time(data.ends)],
      ["Windows", data.windows.length ? windows(data.windows) : "all day"],
      ["Install windows", windows(data.installWindows)],
      ["Download after", data.downloadAfter], ["Install after", data.installAfter],
      ["Path on the device", data.path], ["Devices at once", number(data.concurrency)],
      ["How devices are tried", PLANS[data.plan] ?? data.plan.replaceAll("_", " ")],
      ["Adds devices itself", data.autoAdd ? "yes" : ""],
      ["Assigns licences itself", data.autoAssign ? "yes" : ""],
      ["SHA-256", h("code", null, data.digest), true],
    ]));
    patch(changes, data.changes.length ? h("section", { class: "card" },
      h("h2", null, "Status of the campaign"),
      h("ol", { class: "steps" }, data.changes.map((change) =>
        h("li", null, chip(change.status), " ", time(change.time))))) : null);
    shown = data.status;
    ready();
  }, failed);
  const later = paced(2000, () => rows());
  const whole = paced(1000, () => { detail(); later(); });
  search.addEventListener("input", paced(300, () => { pages.reset(); rows(); }));

  return {
    topic: `campaign/${name}`,
    refresh: whole,
    on(kind, data) {
      if (kind === "changed") whole();
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
