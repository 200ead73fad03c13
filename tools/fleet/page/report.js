"use strict";
// Draws the report's plots from the JSON embedded in the page. Redraws on a change of theme or
// width, since uPlot paints on a canvas and cannot follow either by itself.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const times = data.times;
  // Grey while waiting, blues in transfer, violet and orange around the reboot, then the verdict.
  const STATE_COLOURS = {
    waiting: "#8c96a3", idle: "#aab4c0", downloading: "#3f8fd2", downloaded: "#1f5f9e",
    installing: "#8a63c9", trial: "#e08a2b", updated: "#2c9c64", failed: "#cf4038",
  };
  const SPARE = ["#2aa5a0", "#b0578d", "#94882b", "#5b6bbf"];
  const LINES = ["#3f8fd2", "#e08a2b", "#cf4038"];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const seconds = (v) => {
    if (v == null) return "–";
    if (v >= 1) return +v.toPrecision(3) + " s";
    if (v >= 1e-3) return +(v * 1e3).toPrecision(3) + " ms";
    return +(v * 1e6).toPrecision(3) + " µs";
  };
  const amount = (v) => {
    if (v == null) return "–";
    for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(v) >= limit) return +(v / limit).toPrecision(3) + unit;
    }
    return String(+v.toPrecision(3));
  };
  const clock = (v) => {
    if (v == null) return "–";
    const whole = Math.round(v);
    if (whole < 120) return +v.toFixed(1) + " s";
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  };

  function axes(format) {
    const base = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 },
                   ticks: { stroke: css("--grid"), width: 1 }, font: "12px system-ui, sans-serif" };
    return [
      { ...base, values: (_, splits) => splits.map(clock) },
      { ...base, size: 66, values: (_, splits) => splits.map(format) },
    ];
  }

  function draw(box, series, columns, format, extra = {}) {
    box.textContent = "";
    if (times.length < 2 || !columns.some((column) => column.some((v) => v != null))) {
      box.classList.add("empty");
      box.textContent = "Nothing was recorded.";
      return;
    }
    const tall = box.classList.contains("tall");
    new uPlot({
      width: Math.max(280, box.clientWidth), height: tall ? 260 : 160,
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.05 : 1] } },
      axes: axes(format), cursor: { drag: { x: true, y: false } },
      series: [{ label: "time", value: (_, v) => clock(v) }, ...series], ...extra,
    }, [times, ...columns], box);
  }

  function states(box) {
    const names = Object.keys(data.states).filter((name) => data.states[name].some((n) => n > 0));
    // Stacked from the last state up: each line is the sum of itself and all states after it.
    const tops = [];
    let sum = times.map(() => 0);
    for (const name of [...names].reverse()) {
      sum = sum.map((v, i) => v + data.states[name][i]);
      tops.unshift(sum);
    }
    let spare = 0;
    const series = names.map((name) => {
      const colour = STATE_COLOURS[name] || SPARE[spare++ % SPARE.length];
      return { label: name, stroke: colour, fill: colour + "d0", width: 1, points: { show: false },
               paths: uPlot.paths.stepped({ align: -1 }),
               value: (_, v, __, i) => (i == null ? "–" : data.states[name][i].toLocaleString("en")) };
    });
    draw(box, series, tops, amount);
  }

  function latency(box, name) {
    const byPercentile = data.latencies[name] || {};
    const names = Object.keys(byPercentile);
    draw(box, names.map((p, i) => ({
      label: "p" + p, stroke: LINES[i % LINES.length], width: 1.5, spanGaps: true,
      points: { show: times.length < 60, size: 4 }, value: (_, v) => seconds(v),
    })), names.map((p) => byPercentile[p]), seconds);
  }

  function rates(box, names) {
    draw(box, names.map((name, i) => ({
      label: name.replace("_", " "), stroke: LINES[i % LINES.length], width: 1.5,
      points: { show: false }, value: (_, v) => amount(v),
    })), names.map((name) => data.rates[name] || []), amount);
  }

  function all() {
    for (const box of document.querySelectorAll("[data-plot]")) {
      const name = box.dataset.plot;
      if (name === "states") states(box);
      else if (name === "bytes") rates(box, ["bytes_in", "bytes_out"]);
      else if (name === "requests") rates(box, ["requests"]);
      else if (name === "retransmissions") rates(box, ["retransmissions"]);
      else latency(box, name);
    }
  }

  let width = 0;
  let pending = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => {
      if (document.body.clientWidth !== width) { width = document.body.clientWidth; all(); }
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  width = document.body.clientWidth;
  all();
})();
