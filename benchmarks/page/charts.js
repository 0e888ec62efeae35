// The charts: report*.py made them, here they get the theme's colours and their controls.
/* global Plotly */

const charts = JSON.parse(document.getElementById("charts").textContent);
const root = document.documentElement;
const probe = document.body.appendChild(document.createElement("i"));
probe.hidden = true;
const paper = matchMedia("print");
let rung = root.dataset.rung;

// The current value of one of page.css's colours.
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// A copy of a figure in which names of colours have become colours.
function coloured(value) {
  if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
  if (Array.isArray(value)) return value.map(coloured);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each)]));
}

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;

const share = () => chosen("bars") === "share";

// Where a logarithmic axis is labelled: 1, 2, 5, 10, or the powers of ten alone.
function ticks(data) {
  const values = data.flatMap(({ x }) => x).filter((x) => x > 0);
  const decades = Math.log10(Math.max(...values) / Math.min(...values));
  const found = [];
  for (let power = -6; power < 9; power++)
    for (const digit of decades < 2.2 ? [1, 2, 5] : [1]) found.push(Number(`${digit}e${power}`));
  return found;
}

function axes({ layout: { xaxis, yaxis, barmode }, data }) {
  const line = colour("--line"), soft = colour("--soft");
  const scale = chosen("scale");
  const type = barmode || scale === "auto" ? xaxis.type : scale; // stacks begin at zero
  const logarithmic = type === "log";
  return {
    xaxis: {
      ...xaxis, range: share() ? undefined : xaxis.range, type, gridcolor: line, zerolinecolor: line, fixedrange: true,
      rangemode: "tozero", nticks: 7, tickfont: { color: soft },
      tickvals: logarithmic ? ticks(data) : undefined, exponentformat: "none",
      minor: logarithmic ? { showgrid: true, gridcolor: line, dtick: "D1", griddash: "dot" } : {},
    },
    yaxis: { ...yaxis, gridcolor: line, fixedrange: true, automargin: true, ticklabelstandoff: 6 },
  };
}

// What marks the rung that is looked at.
function mark(rungs) {
  const at = rungs.indexOf(rung);
  return at < 0 ? [] : [{
    type: "rect", xref: "paper", x0: 0, x1: 1, y0: at - 0.5, y1: at + 0.5,
    fillcolor: colour("--wash"), line: { width: 0 }, layer: "below",
  }];
}

function draw({ id, rungs, figure }) {
  const layout = {
    ...coloured(figure.layout), ...axes(figure), shapes: mark(rungs),
    // Paper does not resize what is on it, so there the width is said.
    width: paper.matches ? document.getElementById(id).clientWidth : undefined,
    height: 90 + rungs.length * (figure.layout.scattermode && figure.layout.showlegend ? 44 : 34), margin: { l: 8, r: 26, t: 12, b: 36 },
    font: { family: getComputedStyle(root).fontFamily, size: 13, color: colour("--ink") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    legend: {
      ...figure.layout.legend, orientation: "h", y: 1.02, yanchor: "bottom", x: 0,
    },
    barnorm: figure.layout.barmode && share() ? "percent" : "",
    hoverlabel: { bgcolor: colour("--surface"), font: { color: colour("--ink") } },
  };
  const data = layout.barnorm ? figure.data.filter(({ type }) => type === "bar") : figure.data;
  Plotly.react(id, coloured(data), layout, { displayModeBar: false, responsive: true });
}

const drawAll = () => charts.forEach(draw);

document.addEventListener("rung", ({ detail }) => {
  rung = detail;
  for (const { id, rungs } of charts) Plotly.relayout(id, { shapes: mark(rungs) });
});
document.addEventListener("theme", drawAll);
for (const input of document.querySelectorAll('input[name="scale"], input[name="bars"]'))
  input.addEventListener("change", drawAll);
drawAll();
