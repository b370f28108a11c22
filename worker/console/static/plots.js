// Draws the samples of the last day and week. The figures are in the page as text already.
"use strict";

const PLOTS = [
  { title: "Sessions", series: { live: "live in Redis", waiting: "waiting to sleep" } },
  { title: "Redis memory (MiB)", series: { memory_kib: "used", memory_limit_kib: "limit" }, scale: 1 / 1024 },
  { title: "A minute, at most", series: { archived: "fell asleep", restored: "woken" } },
];
const STROKES = ["--line-1", "--line-2"];

function draw(box, columns) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const grid = { stroke: style.getPropertyValue("--rule").trim(), width: 1 };
  box.replaceChildren();
  for (const plot of PLOTS) {
    const series = Object.entries(plot.series).map(([name, label], at) => ({
      label, stroke: style.getPropertyValue(STROKES[at]).trim(), width: 2, dash: at ? [6, 4] : undefined,
    }));
    const values = Object.keys(plot.series).map((name) => {
      return columns[name].map((value) => (value === null ? null : value * (plot.scale || 1)));
    });
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = plot.title;
    figure.append(caption);
    box.append(figure);
    const axis = { stroke: ink, grid, ticks: grid };
    new uPlot({ width: Math.max(box.clientWidth - 2, 260), height: 200, series: [{}, ...series], axes: [axis, { ...axis, size: 70 }],
      scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 1)] } } }, [columns.at, ...values], figure);
  }
}

async function load(box) {
  const reply = await fetch(`/samples?span=${box.dataset.span}`, { credentials: "same-origin" });
  if (!reply.ok) return;
  const columns = await reply.json();
  if (columns.live.some((value) => value !== null)) draw(box, columns);
  else box.replaceChildren(Object.assign(document.createElement("p"), { className: "quiet", textContent: "No samples yet: a worker takes one a minute." }));
}

document.querySelectorAll(".plots").forEach(load);
