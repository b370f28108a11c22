// Draws the samples of the last day and week. /figures has the same as a table, without JavaScript.
"use strict";

const PLOTS = [
  { title: "Sessions", series: { live: "live in Redis", waiting: "waiting to sleep" } },
  { title: "Redis's memory, MiB", series: { memory_kib: "used", memory_limit_kib: "limit" }, scale: 1 / 1024 },
  { title: "The most in a minute", series: { archived: "fell asleep", restored: "woken" } },
];
const STROKES = ["--line-1", "--line-2"];
const DAY_SECONDS = 86400;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function frame(title) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption);
  return figure;
}

function inUtc(seconds, from, to) {
  return new Date(seconds * 1000).toISOString().slice(from, to).replace("T", " ");
}

function draw(plot, columns, figure) {
  const grid = { stroke: color("--rule"), width: 1 };
  const axis = { stroke: color("--ink"), grid, ticks: grid };
  const isDay = columns.at.at(-1) - columns.at[0] <= DAY_SECONDS;
  const series = Object.values(plot.series).map((label, at) => ({
    label, stroke: color(STROKES[at]), width: 2, dash: at ? [6, 4] : undefined,
  }));
  const values = Object.keys(plot.series).map((name) =>
    columns[name].map((value) => (value === null ? null : value * (plot.scale || 1))));
  new uPlot({
    width: figure.clientWidth,
    height: 200,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    series: [{ label: "UTC", value: (_, seconds) => (seconds === null ? "--" : inUtc(seconds, 0, 16)) }, ...series],
    axes: [{ ...axis, values: (_, splits) => splits.map((each) => (isDay ? inUtc(each, 11, 16) : inUtc(each, 5, 10))) }, { ...axis, size: 70 }],
    scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 1)] } },
  }, [columns.at, ...values], figure);
}

async function load(box) {
  const reply = await fetch(`/samples?span=${box.dataset.span}`, { credentials: "same-origin" });
  if (!reply.ok) return;
  const columns = await reply.json();
  if (columns.live.every((value) => value === null)) {
    box.textContent = "There are no samples yet. A worker takes one a minute.";
    return;
  }
  const figures = PLOTS.map((plot) => frame(plot.title));
  box.replaceChildren(...figures);
  PLOTS.forEach((plot, at) => draw(plot, columns, figures[at]));
}

document.querySelectorAll(".plots").forEach(load);
