"use strict";
// Draws the pictures of the document in this page, shows a card of the function under the pointer, and follows the
// ground's colours and, in a live page, the run.

let shown = JSON.parse(document.getElementById("document").textContent);
let curves = bytes(shown.functions.curves);
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

async function loadPlotly() {
  const packed = new Blob([bytes(document.getElementById("plotly").textContent)]);
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The document's greys are markers; they become the colours of the ground that the page has now.
function coloured(value) {
  if (value === "ground-grey") return colour("--grey");
  if (value === "ground-band") return colour("--band");
  if (Array.isArray(value)) return value.map(coloured);
  if (value && typeof value === "object" && !("bdata" in value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item)]));
  }
  return value;
}

function layoutOf(figure) {
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--grey"), color: colour("--text") };
  return {
    ...figure.layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text"), size: 12 },
    hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  };
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  displayModeBar: matchMedia("(hover: none)").matches ? false : "hover", // where nothing hovers it would hide titles for good
  scrollZoom: false,
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

async function drawSection(section) {
  for (const [number, figure] of section.figures.entries()) {
    const panel = document.getElementById(`${section.id}-${number}`);
    await Plotly.react(panel, coloured(figure.data), layoutOf(figure), CONFIG);
    if (!panel.dataset.listens) {
      panel.dataset.listens = "yes";
      panel.on("plotly_hover", (event) => showCard(event));
      panel.on("plotly_click", (event) => showCard(event));
      panel.on("plotly_unhover", hideCard);
    }
  }
}

async function draw() {
  for (const section of shown.sections) await drawSection(section);
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawing(number) {
  const { points, reach } = shown.functions;
  const width = 200, height = 110, undefinedLevel = 255;
  const levels = curves.subarray(number * points, (number + 1) * points);
  let path = "", pen = "M";
  levels.forEach((level, i) => {
    if (level === undefinedLevel) { pen = "M"; return; }
    path += `${pen}${((i / (points - 1)) * width).toFixed(1)},${(height - (level / 254) * height).toFixed(1)}`;
    pen = "L";
  });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `the function from ${-reach} to ${reach}`);
  for (const [d, stroke, wide] of [
    [`M0,${height / 2}H${width}M${width / 2},0V${height}`, "--grid", 1],
    [path, "--accent", 2],
  ]) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", d);
    line.setAttribute("fill", "none");
    line.setAttribute("stroke", colour(stroke));
    line.setAttribute("stroke-width", wide);
    svg.append(line);
  }
  return svg;
}

function showCard(event) {
  const point = event.points[0];
  if (point.customdata === undefined) return;
  const number = point.customdata, table = shown.functions, card = document.getElementById("card");
  const rows = [
    [shown.metric, table.value[number]],
    ["test", table.test[number]],
    ["predicted", table.predicted[number]],
    ["step time relative to ReLU", table.time_ratio[number]],
    ["status", table.status[number] || "not trained"],
    ["origin", table.order[number] === null ? null : `${table.origin[number]}, number ${table.order[number]}`],
  ];
  const list = element("dl");
  for (const [name, value] of rows) {
    if (value !== null) list.append(element("dt", name), element("dd", value));
  }
  card.replaceChildren(element("code", table.names[number]), drawing(number), list);
  card.hidden = false;
  const at = event.event, room = document.documentElement.clientWidth;
  card.style.left = `${Math.max(4, Math.min(at.clientX + 14, room - card.offsetWidth - 8)) + window.scrollX}px`;
  card.style.top = `${at.clientY + 14 + window.scrollY}px`;
}

function hideCard() {
  document.getElementById("card").hidden = true;
}

function fillContents() {
  const links = shown.sections.map((section) => {
    const link = element("a", section.title);
    link.href = `#${section.id}`;
    return link;
  });
  document.getElementById("contents").replaceChildren(...links);
}

function sameSections(other) {
  const key = (from) => from.sections.map((section) => [section.id, section.figures.length]).join();
  return key(shown) === key(other);
}

// A live page asks for the document every few seconds. The server's end is no error: the page stays as it was last.
async function follow() {
  const note = element("p");
  note.id = "live";
  document.querySelector("header").append(note);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 3000));
    let fresh;
    try {
      const answer = await fetch("document.json", { cache: "no-store", headers: { "If-None-Match": shown.version || "" } });
      if (answer.status === 304) continue;
      fresh = await answer.json();
    } catch {
      note.textContent = "The server has stopped; this page shows its last state.";
      continue;
    }
    note.textContent = "";
    if (!sameSections(fresh)) { window.location.reload(); return; }
    shown = fresh;
    curves = bytes(shown.functions.curves);
    document.getElementById("heading").innerHTML = shown.heading;
    for (const section of shown.sections) document.getElementById(`${section.id}-words`).innerHTML = section.html;
    await draw();
  }
}

async function start() {
  fillContents();
  await loadPlotly();
  await draw();
  dark.addEventListener("change", draw);
  if (LIVE) follow();
}

start();
