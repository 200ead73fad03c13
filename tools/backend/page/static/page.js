// The page: who is signed in, which view is shown, and the one feed that keeps it fresh.

import { callbacksView, cellsView } from "./tables.js";
import { campaignView, campaignsView } from "./campaigns.js";
import { deviceView, devicesView } from "./devices.js";
import { empty, fill, h, instant, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { SignedOut, forget, fromAddress, signIn, token } from "./session.js";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const session = document.getElementById("session");
const live = document.getElementById("live");

const VIEWS = {
  campaigns: { list: campaignsView, one: campaignView },
  devices: { list: devicesView, one: deviceView },
  cells: { list: cellsView },
  callbacks: { list: callbacksView },
};
const STATES = { connecting: "Connecting", open: "Live", waiting: "Offline, trying again" };

let view = null;
let feed = null;

// -- the backend's clock ---

// Ticks between two events of the feed at the rate that the last ones showed. The slower of two
// rates: somebody may have moved the time forward in between.
const clock = {
  element: document.getElementById("clock"),
  now: null, at: 0, rate: 1, seen: 1,
  set(now) {
    const at = performance.now() / 1000;
    if (this.now !== null && at - this.at < 2) return;
    if (this.now !== null) {
      const seen = Math.max(0, (now - this.now) / (at - this.at));
      this.rate = Math.min(seen, this.seen);
      this.seen = seen;
    }
    [this.now, this.at] = [now, at];
    this.show();
  },
  clear() { this.now = null; this.rate = this.seen = 1; setText(this.element, ""); },
  show() {
    if (this.now === null) return;
    const now = this.now + (performance.now() / 1000 - this.at) * this.rate;
    const speed = this.rate > 1.5 ? ` ×${Math.round(this.rate)}` : "";
    setText(this.element, `${instant(now)}${speed}`);
  },
};
setInterval(() => clock.show(), 1000);

// -- views ---

// `#/campaigns/ID?status=...` as its parts.
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [section, ...rest] = path.split("/");
  let name = "";
  try { name = decodeURIComponent(rest.join("/")); } catch { /* no such view then */ }
  return { section, name, parameters: new URLSearchParams(query) };
}

function close() {
  feed?.stop();
  view?.stop?.();
  feed = view = null;
}

function show() {
  close();
  if (!token()) {
    signInForm();
    return;
  }
  const { section, name, parameters } = address();
  const make = VIEWS[section]?.[name ? "one" : "list"];
  if (!make) {
    location.replace("#/campaigns");
    return;
  }
  nav.hidden = session.hidden = false;
  for (const link of nav.children) {
    if (link.dataset.section === section) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${section[0].toUpperCase()}${section.slice(1)} – fotilla backend`;
  // Nothing is seen of a view before its first data, so that nothing moves when they come.
  const root = h("div", { class: "view loading" });
  fill(main, root);
  const ready = () => root.classList.remove("loading");
  const current = make(root, { name, parameters, failed, ready });
  view = current;
  current.refresh();
  feed = new Feed(current.topic, { on, lost: failed, state: connection });
}

function connection(state) {
  live.className = `live ${state}`;
  setText(live, STATES[state]);
}

function on(kind, data) {
  if (kind === "clock" || kind === "hello") clock.set(data.now);
  if (kind === "hello") {
    if (data.fresh) view?.refresh();
  } else {
    view?.on?.(kind, data);
  }
}

// What a view or the feed could not do.
function failed(error) {
  if (error instanceof SignedOut) {
    forget();
    close();
    signInForm("The backend does not know this token. Has it been restarted with another one?");
    return;
  }
  if (error.name === "AbortError") return;
  main.querySelector(".loading")?.classList.remove("loading");
  const box = main.querySelector(".trouble");
  if (error.status === 404) {
    feed?.stop();
    fill(main, h("div", { class: "view" }, h("h1", null, "Not found"), empty(error.message)));
  } else if (box) {
    setText(box, error.message);
  } else {
    main.prepend(h("p", { class: "notice trouble", role: "alert" }, error.message));
  }
}

// -- signing in ---

function signInForm(message = "") {
  nav.hidden = session.hidden = true;
  clock.clear();
  document.title = "Sign in – fotilla backend";
  const input = h("input", {
    id: "token", name: "token", type: "password", autocomplete: "off", spellcheck: "false",
    maxlength: "600",
  });
  const trouble = h("p", { class: "notice", role: "alert" }, message);
  trouble.hidden = !message;
  const button = h("button", { type: "submit" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    trouble.hidden = true;
    button.disabled = true;
    try {
      await signIn(input.value.trim());
      show();
    } catch (error) {
      setText(trouble, error instanceof SignedOut ? "That is not the token." : error.message);
      trouble.hidden = false;
      input.select();
    } finally {
      button.disabled = false;
    }
  };
  fill(main, h("form", { class: "sign-in", on: { submit } },
    h("h1", null, "Sign in"),
    h("p", null, "The backend has one token for its administrator. It is in the ready file, or in "
      + "the file that the backend was started with."),
    h("label", { for: "token" }, "Administrator's token"), input, trouble, button));
  input.focus();
}

document.getElementById("leave").addEventListener("click", () => {
  forget();
  close();
  signInForm();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its fragment is no view
  main.focus();
});
addEventListener("hashchange", () => {
  fromAddress();
  show();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
// A window that slept may hold a connection that is long dead, and old data.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && token()) view?.refresh();
});

fromAddress();
show();
