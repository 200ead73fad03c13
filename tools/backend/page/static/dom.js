// Elements and texts. Whatever comes from outside becomes a text node or the value of a harmless
// attribute, never markup.

const ATTRIBUTES = new Set([
  "class", "id", "type", "name", "value", "for", "title", "role", "placeholder", "autocomplete",
  "scope", "tabindex", "datetime", "maxlength", "spellcheck", "disabled", "selected", "colspan",
]);

// An element. `on` holds listeners, `data` goes into data-*, `aria` into aria-*; `href` must stay
// within the page. Children are nodes or texts; null and false are left out.
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [kind, listener] of Object.entries(value)) element.addEventListener(kind, listener);
    } else if (name === "data" || name === "aria") {
      for (const [key, text] of Object.entries(value)) element.setAttribute(`${name}-${key}`, text);
    } else if (name === "href") {
      if (!value.startsWith("#/")) throw new Error("a link leaves the page");
      element.setAttribute("href", value);
    } else if (ATTRIBUTES.has(name)) {
      element.setAttribute(name, value === true ? "" : value);
    } else {
      throw new Error(`no attribute ${name}`);
    }
  }
  return fill(element, ...children);
}

// Replace what an element holds.
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined
      && child !== false && child !== "").map((child) =>
      child instanceof Node ? child : document.createTextNode(String(child))),
  );
  return element;
}

// Make what an element holds like these children, in place: what stays the same keeps the keyboard's
// focus and a click that is under way. For children without listeners, which would be those of before.
export function patch(element, ...children) {
  const fresh = fill(document.createElement("div"), ...children);
  morphChildren(element, fresh);
}

function morphChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  const there = [...old.childNodes];
  wanted.forEach((node, index) => {
    if (index < there.length) morph(there[index], node);
    else old.append(node);
  });
  there.slice(wanted.length).forEach((node) => node.remove());
}

function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name } of [...old.attributes]) {
      if (name !== "style" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      // The policy lets scripts set styles, but not the attribute.
      if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
    morphChildren(old, fresh);
  }
}

// Set a text only when it is another one, so that nothing blinks or is read out twice.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const NUMBERS = new Intl.NumberFormat("en");
export const number = (value) => NUMBERS.format(value);
export const plural = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

// `2026-11-23 16:05:09`, from seconds since the epoch.
export function instant(seconds) {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "?" : date.toISOString().slice(0, 19).replace("T", " ");
}

export const NOTHING = "–";

export function time(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  return h("time", { datetime: new Date(seconds * 1000).toISOString() }, instant(seconds));
}

// `UpgradePending` as `Upgrade pending`, `CampaignScheduled` as `Scheduled`.
export function label(status) {
  const words = status.replace(/^Campaign(?=[A-Z])/, "").replace(/([a-z])([A-Z])/g, "$1 $2");
  return words.charAt(0).toUpperCase()
    + words.slice(1).toLowerCase().replace("fota", "FOTA").replace("re scheduled", "re-scheduled");
}

const TONES = {
  UpgradeSuccess: "good",
  UpgradeFailed: "bad", CampaignRequestFailed: "bad", CampaignFailed: "bad", RequestToFotaServerFailed: "warn",
  CampaignAborted: "warn", DeviceRejected: "warn",
  UpgradeScheduled: "busy", CampaignScheduled: "busy",
};

// What a status means, for people who have not read the API's documentation.
const MEANINGS = {
  NoDeviceDataFromNetwork: "not reachable so far",
  ReceivedDeviceDataFromNetwork: "reachable, its turn is not planned yet",
  Accepted: "taken, not asked yet",
  UpgradePending: "waits for its turn or for another try",
  UpgradeScheduled: "its turn: the upgrade begins or runs",
  RequestToFotaServerFailed: "could not be asked, is tried again",
  DeviceRejected: "did not pass the checks, has no part in it",
  CampaignCancelled: "taken off before its turn",
  CampaignAborted: "stopped before it was through",
  UpgradeFailed: "over, without the new version",
  UpgradeSuccess: "runs the new version",
  CampaignRequestPending: "its devices are being checked",
  CampaignRequestFailed: "none of its devices passed the checks",
  CampaignRequestQueued: "waits to be planned",
  CampaignPreScheduled: "planned, has not started",
  CampaignScheduled: "under way",
  CampaignEnded: "over",
  CampaignFailed: "could not start",
};

export const meaning = (status) => MEANINGS[status] ?? "";

// A status as a chip; its name in the API and what it means are the tooltip.
export function chip(status, tone = TONES[status] ?? "calm") {
  const title = [status, meaning(status)].filter(Boolean).join(": ");
  return h("span", { class: `chip ${tone}`, title }, label(status));
}

export const campaignLink = (id, text) =>
  h("a", { href: `#/campaigns/${encodeURIComponent(id)}` }, text);
export const deviceLink = (id) =>
  h("a", { class: "id", href: `#/devices/${encodeURIComponent(id)}` }, id);

// Pairs of a name and a value; those without a value are left out. A third item that is true gives
// the pair a whole line.
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, shown.map(([name, value, long]) =>
    h("div", { class: long && "whole" }, h("dt", null, name), h("dd", null, value))));
}

// A table that becomes a list of cards in a narrow window, where cells without anything are left
// out; rows are lists of cells.
export function table(caption, columns, rows) {
  return h("table", null,
    h("caption", null, caption),
    h("thead", null, h("tr", null, columns.map((column) => h("th", { scope: "col" }, column)))),
    h("tbody", null, rows.map((cells) => h("tr", null, cells.map((cell, index) =>
      h("td", { class: cell === NOTHING && "none", data: { label: columns[index] } }, h("span", null, cell)))))));
}

function pager(previous, next) {
  if (!previous && !next) return null;
  const button = (text, there, step) => h("button", {
    type: "button", disabled: !there, data: { step } }, text);
  return h("nav", { class: "pager", aria: { label: "Pages" } },
    button("Previous", previous, -1), button("Next", next, 1));
}

// Where a list is that comes page by page. `places` are where this page and those before it begin.
export class Pages {
  constructor(first, container, load) {
    this.first = first;
    this.load = load;
    this.next = null;
    this.reset();
    container.addEventListener("click", (event) => {
      const step = Number(event.target.closest("[data-step]")?.dataset.step ?? 0);
      if (step > 0 && this.next !== null) this.places.push(this.next);
      else if (step < 0 && this.places.length > 1) this.places.pop();
      else return;
      this.load();
    });
  }

  reset() { this.places = [this.first]; }
  get place() { return this.places.at(-1); }
  get atFirst() { return this.places.length === 1; }

  // The buttons, when the page has come and says where the next one begins.
  buttons(next) {
    this.next = next;
    return pager(!this.atFirst, next !== null);
  }
}

export const empty = (text) => h("p", { class: "empty" }, text);
