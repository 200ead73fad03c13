// Cells and callbacks: tables that the feed sends whole when they have changed.

import { NOTHING, campaignLink, empty, fill, h, number, patch, table, time } from "./dom.js";
import { reader } from "./loading.js";
import { read } from "./session.js";

// A view of one table; `draw(data)` gives the nodes.
function tableView(path, title, note, draw) {
  return (root, { failed, ready }) => {
    const body = h("div", null);
    fill(root, h("h1", null, title), h("p", { class: "soft" }, note), body);
    const show = (data) => { patch(body, draw(data)); ready(); };
    const get = reader((signal) => read(path, {}, signal), show, failed);
    return {
      topic: path,
      refresh: get,
      on(kind, data) { if (kind === "table") show(data); },
      stop: get.stop,
    };
  };
}

function load(active, capacity) {
  const box = h("div", { class: "stack load", role: "img", aria: { label: `${active} of ${capacity} places` } });
  const part = h("i", null);
  part.style.flexBasis = `${Math.min(100, (100 * active) / Math.max(1, capacity))}%`;
  part.className = active >= capacity ? "full" : "some";
  box.append(part);
  return box;
}

export const cellsView = tableView("cells", "Cells",
  "Where devices are attached to the operator's network, and how many places for upgrades each "
  + "cell has. Devices that never attach are in no cell.",
  (data) => (data.cells.length ? [
    table("Cells", ["Cell", "Attached", "Upgrading", "Places", "Waiting", "Load"],
      data.cells.map((cell) => [cell.name, number(cell.attached), number(cell.active),
        number(cell.capacity), number(cell.waiting), load(cell.active, cell.capacity)])),
    data.truncated ? h("p", { class: "soft" }, "There are more cells than are shown here.") : null,
  ] : empty("No device is attached.")));

const OUTCOMES = { delivered: "good", dropped: "bad", waiting: "busy" };

export const callbacksView = tableView("callbacks", "Callbacks",
  "The newest messages to the listeners that accounts have registered.",
  (data) => (data.callbacks.length ? table("Callbacks",
    ["Message", "State", "About", "Account", "Tries", "Made", "Sent or next try", "Trouble"],
    data.callbacks.map((row) => [
      `#${row.number} ${row.kind}`,
      h("span", { class: `chip ${OUTCOMES[row.state] ?? "calm"}` }, row.state),
      row.campaign ? campaignLink(row.campaign, "campaign") : NOTHING,
      `${row.account} v${row.version}`, number(row.tries), time(row.created),
      time(row.finished ?? row.due), row.error || NOTHING,
    ])) : empty("Nothing has been sent: no account has registered a listener, or nothing has happened since.")));
