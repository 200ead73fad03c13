// Devices by status: a bar for now, stacked steps over time.

import { fill, h, instant, label, number } from "./dom.js";

// From the beginning of a device's way to its end; a chart is stacked in this order, ends below.
const ORDER = [
  "NoDeviceDataFromNetwork", "ReceivedDeviceDataFromNetwork", "Accepted", "UpgradePending",
  "UpgradeScheduled", "RequestToFotaServerFailed", "DeviceRejected", "CampaignCancelled",
  "CampaignAborted", "UpgradeFailed", "UpgradeSuccess",
];
const COLOURS = {
  NoDeviceDataFromNetwork: "#a3adb9", ReceivedDeviceDataFromNetwork: "#7fb3d9",
  Accepted: "#7fb3d9", UpgradePending: "#3f8fd2", UpgradeScheduled: "#8a63c9",
  RequestToFotaServerFailed: "#e08a2b", DeviceRejected: "#b08968",
  CampaignCancelled: "#6b7684", CampaignAborted: "#b0578d",
  UpgradeFailed: "#cf4038", UpgradeSuccess: "#2c9c64",
};
const OTHER = "#2aa5a0";
const HEIGHT = 250;

export const colour = (status) => COLOURS[status] ?? OTHER;

const place = (status) => (ORDER.indexOf(status) + ORDER.length + 1) % (ORDER.length + 1);
export const inOrder = (statuses) => [...statuses].sort((a, b) => place(a) - place(b));

// The statuses as one bar, ends first.
export function bar(counts) {
  const names = inOrder(Object.keys(counts)).reverse();
  const text = names.map((name) => `${label(name)}: ${number(counts[name])}`).join(", ");
  const box = h("div", { class: "stack", role: "img", aria: { label: text || "No devices" }, title: text });
  for (const name of names) {
    const part = h("i", null);
    part.style.flexGrow = counts[name];
    part.style.backgroundColor = colour(name);
    box.append(part);
  }
  return box;
}

export function swatch(status) {
  const box = h("i", { class: "swatch", aria: { hidden: "true" } });
  box.style.backgroundColor = colour(status);
  return box;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function amount(value) {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (value >= 1e3) return `${+(value / 1e3).toPrecision(3)}k`;
  return Number.isInteger(value) ? String(value) : "";
}

// As short as the range allows: the day, the minute or the second.
function moments(splits) {
  const range = splits[splits.length - 1] - splits[0];
  return splits.map((value) => {
    const text = instant(value);
    if (range > 4 * 86400) return text.slice(5, 10);
    if (range > 86400 / 2) return text.slice(5, 16).replace(" ", "\n");
    return range > 600 ? text.slice(11, 16) : text.slice(11, 19);
  });
}

// Draws a history into `box`, again when the theme or the width is another one.
export class StateChart {
  constructor(box) {
    this.box = box;
    this.history = null;
    this.plot = null;
    this.names = "";
    this.note = "";
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.dark.addEventListener("change", this.redraw);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(box);
  }

  stop() {
    this.dark.removeEventListener("change", this.redraw);
    this.sizes.disconnect();
    this.plot?.destroy();
  }

  resize() {
    const width = this.box.clientWidth;
    if (this.plot && width && this.plot.width !== width) {
      this.plot.setSize({ width, height: this.plot.height });
    }
  }

  // `history` is { times, counts: { status: [...] } }.
  show(history) {
    this.history = history;
    const names = inOrder(Object.keys(history.counts).filter((name) =>
      history.counts[name].some((value) => value > 0)));
    if (this.plot && names.join() === this.names) {
      this.plot.setData(this.columns(names));
      return;
    }
    this.names = names.join();
    this.draw();
  }

  columns(names) {
    const { times, counts } = this.history;
    // Stacked from the last status up: each line is the sum of itself and all after it.
    const tops = [];
    let sum = times.map(() => 0);
    for (const name of [...names].reverse()) {
      sum = sum.map((value, index) => value + counts[name][index]);
      tops.unshift(sum);
    }
    return [times, ...tops];
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    const names = this.names ? this.names.split(",") : [];
    const { times, counts } = this.history ?? { times: [], counts: {} };
    if (!names.length || times.length < 2) {
      fill(this.box, h("p", { class: "empty" }, "Nothing has changed yet."));
      return;
    }
    fill(this.box);
    const line = { stroke: css("--grid"), width: 1 };
    const axis = { stroke: css("--soft"), grid: line, ticks: line, font: "12px system-ui, sans-serif" };
    const series = names.map((name) => ({
      label: label(name), stroke: colour(name), fill: colour(name), width: 1,
      points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }),
      value: (_, __, ___, index) => (index === null ? "–" : number(this.history.counts[name][index])),
    }));
    this.plot = new uPlot({
      width: Math.max(240, this.box.clientWidth), height: HEIGHT, padding: [8, 28, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: false },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.05 : 1] },
      },
      axes: [
        { ...axis, space: 72, values: (_, splits) => moments(splits) },
        { ...axis, size: 52, values: (_, splits) => splits.map(amount) },
      ],
      cursor: { drag: { x: true, y: false }, points: { show: false } },
      series: [{ label: "time", value: (_, value) => (value === null ? "–" : instant(value)) }, ...series],
      hooks: { setCursor: [(plot) => this.tell(plot, names)] },
    }, this.columns(names), this.box);
    this.readout = h("p", { class: "readout" }, this.note);
    this.box.append(this.readout);
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-label",
      `Devices by status from ${instant(times[0])} to ${instant(times[times.length - 1])}; `
      + "the numbers of now are in the list beside.");
  }

  // What stands below the plot while no cursor is in it.
  say(note) {
    this.note = note;
    if (this.readout && this.plot?.cursor.idx == null) fill(this.readout, note);
  }

  // The numbers under the cursor, below the plot.
  tell(plot, names) {
    if (!this.readout) return;
    const index = plot.cursor.idx;
    if (index === null || index === undefined) {
      fill(this.readout, this.note);
      return;
    }
    const { times, counts } = this.history;
    fill(this.readout, h("b", null, instant(times[index])),
      names.filter((name) => counts[name][index] > 0).map((name) =>
        h("span", null, swatch(name), `${label(name)} ${number(counts[name][index])}`)));
  }
}
