// SPDX-License-Identifier: Apache-2.0
// Draws the charts. Amounts come as exact text; here they become lengths, which need no more than a number.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const colors = Array.from({ length: 7 }, (_, index) => `var(--c${index})`);

// Of charts, in pixels; an average character is about seven of them wide.
const look = { fontSize: "12px" };
const characterWidth = 7;

function amount(text) {
  return Number(text);
}

function label(value) {
  const digits = { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 };
  return `${value.toLocaleString("en", digits)} ${data.currency}`;
}

function trend(width) {
  const series = data.series.filter((name) => data.trend.some((point) => point.series === name));
  const points = data.trend.map((point) => ({ ...point, cost: amount(point.cost) }));
  const every = Math.max(1, Math.ceil(data.buckets.length / Math.max(2, Math.floor(width / 75))));
  return Plot.plot({
    width,
    height: Math.max(180, Math.min(320, width / 2)),
    marginLeft: 60,
    style: look,
    x: {
      type: "band", domain: data.buckets, label: null, tickSize: 0,
      ticks: data.buckets.filter((_, index) => index % every === 0),
      tickFormat: (bucket) => (bucket.length === 10 ? bucket.slice(5) : bucket),
    },
    y: { grid: true, label: data.currency, tickFormat: "~s" },
    color: { domain: series, range: series.map((name) => colorOf(name)) },
    marks: [
      Plot.barY(points, {
        x: "bucket", y: "cost", fill: "series", order: series,
        title: (point) => `${point.bucket}, ${point.series}: ${label(point.cost)}`,
      }),
      Plot.ruleY([0]),
    ],
  });
}

function colorOf(name) {
  const index = data.series.indexOf(name);
  return index === data.series.length - 1 ? colors[6] : colors[index];
}

function bars(rows, width) {
  const points = rows.map((row) => ({ name: row.name, cost: amount(row.cost) }));
  const narrow = width < 500;
  const room = narrow ? 14 : 28;
  const longest = Math.max(...points.map((point) => label(point.cost).length));
  const short = (name) => (name.length > room ? `${name.slice(0, room - 1)}…` : name);
  return Plot.plot({
    width,
    height: 30 + 26 * points.length,
    marginLeft: 12 + room * characterWidth,
    marginRight: 12 + longest * characterWidth,
    style: look,
    x: { axis: null, domain: [0, Math.max(...points.map((point) => point.cost))] },
    y: { label: null, domain: points.map((point) => point.name), tickSize: 0, tickFormat: short },
    marks: [
      Plot.barX(points, { y: "name", x: "cost", fill: "var(--c0)", title: (point) => `${point.name}: ${label(point.cost)}` }),
      Plot.text(points, { y: "name", x: "cost", text: (point) => label(point.cost), textAnchor: "start", dx: 5 }),
    ],
  });
}

function legend() {
  const list = document.createElement("ul");
  list.className = "legend";
  for (const name of data.series) {
    if (data.trend.some((point) => point.series === name)) {
      const item = document.createElement("li");
      const mark = document.createElement("span");
      mark.style.background = colorOf(name);
      item.append(mark, name);
      list.append(item);
    }
  }
  return list;
}

function draw() {
  for (const [id, make] of [
    ["trend", trend],
    ["models", (width) => bars(data.models, width)],
    ["tenants", (width) => bars(data.tenants, width)],
  ]) {
    const place = document.getElementById(id);
    const rows = data[id];
    if (rows.length === 0) {
      place.remove();
      continue;
    }
    const chart = make(place.clientWidth || 680);
    // The figure's own words and the table say it all; the names of the library's parts would only be read in between.
    chart.setAttribute("aria-hidden", "true");
    place.replaceChildren(...(id === "trend" ? [legend(), chart] : [chart]));
  }
}

draw();
let drawnWidth = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth !== drawnWidth) {
    drawnWidth = document.body.clientWidth;
    draw();
  }
});
