// Draws the pictures of the document in this page, shows a card of the function under the pointer, and follows the
// theme. `tables.js` has the tables that sort, `live.js` what a page of `aquasurf watch` shows of a running search.

let shown = JSON.parse(document.getElementById("document").textContent);
let curves = curvesOf(shown.functions); // of each function, a list: one curve, or one for each of its roles
const logarithmic = new Set(); // the sections whose vertical axes are logarithmic now

function $(id) {
  return document.getElementById(id);
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.append(text);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (letter) => letter.charCodeAt(0));
}

function curvesOf({ curves, n_curves = [], points }) {
  const levels = bytes(curves);
  let at = 0;
  return n_curves.map((n) => Array.from({ length: n }, () => levels.subarray(at, (at += points))));
}

async function loadPlotly() {
  const packed = $("plotly").textContent;
  const blob = packed ? new Blob([bytes(packed)]) : await (await fetch("/plotly.gz")).blob();
  const script = document.createElement("script");
  script.textContent = await new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

// A theme's colours are of the kind light-dark(a, b), which a browser resolves only where a colour is used.
function colour(name) {
  const probe = $("card");
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.style.color = "";
  return found;
}

// The document's greys are markers; they become the colours of the ground that the page has now.
function coloured(value, colours) {
  if (typeof value === "string") return colours[value] ?? value;
  if (Array.isArray(value)) return value.map((item) => coloured(item, colours));
  if (value && typeof value === "object" && !("bdata" in value)) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, colours)]));
  }
  return value;
}

function layoutOf(figure, isLogarithmic) {
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--grey"), color: colour("--text") };
  const layout = {
    ...figure.layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text"), size: 12 },
    hoverlabel: { bgcolor: colour("--card"), font: { color: colour("--text") } },
    xaxis: { ...axis, ...figure.layout.xaxis },
    yaxis: { ...axis, ...figure.layout.yaxis },
  };
  if (isLogarithmic) {
    const range = layout.yaxis.range;
    // A zoom of the linear axis means nothing on this one, so the axis has a revision of its own.
    Object.assign(layout.yaxis, { type: "log", uirevision: "logarithmic" });
    if (range && range[0] > 0) layout.yaxis.range = range.map(Math.log10);
    else delete layout.yaxis.range;
  }
  return layout;
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  displayModeBar: matchMedia("(hover: none)").matches ? false : "hover", // where nothing hovers it would hide titles for good
  scrollZoom: false,
  modeBarButtonsToRemove: ["lasso2d", "select2d"],
};

async function drawSection(section) {
  const colours = { "ground-grey": colour("--grey"), "ground-band": colour("--band") };
  for (const [number, figure] of section.figures.entries()) {
    const panel = $(`${section.id}-${number}`);
    await Plotly.react(panel, coloured(figure.data, colours), layoutOf(figure, logarithmic.has(section.id)), CONFIG);
    if (!panel.dataset.listens) {
      panel.dataset.listens = "yes";
      panel.on("plotly_hover", (event) => showCard(event));
      panel.on("plotly_click", (event) => showCard(event));
      panel.on("plotly_unhover", hideCard);
    }
  }
}

async function draw() {
  for (const section of shown.sections) if (section.figures.length) await drawSection(section);
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
}

function addChoices() {
  for (const section of shown.sections) {
    const host = $(`${section.id}-choices`);
    if (!host || host.firstChild || !section.logarithmic) continue;
    const button = element("button", "Logarithmic scale", { type: "button", "aria-pressed": logarithmic.has(section.id) });
    button.addEventListener("click", () => {
      if (!logarithmic.delete(section.id)) logarithmic.add(section.id);
      button.setAttribute("aria-pressed", logarithmic.has(section.id));
      drawSection(shown.sections.find((each) => each.id === section.id));
    });
    host.append(button);
  }
}

function pathOf(levels, width, height) {
  const undefinedLevel = 255;
  let path = "", pen = "M";
  levels.forEach((level, i) => {
    if (level === undefinedLevel) { pen = "M"; return; }
    path += `${pen}${((i / (levels.length - 1)) * width).toFixed(1)},${(height - (level / 254) * height).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function drawing(number, width = 200, height = 110) {
  const { reach } = shown.functions;
  const paths = curves[number].map((levels) => [pathOf(levels, width, height), "curve"]);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const label = `${paths.length > 1 ? "the functions of the roles" : "the function"} from ${-reach} to ${reach}`;
  const attributes = { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const [d, kind] of [[`M0,${height / 2}H${width}M${width / 2},0V${height}`, "axis"], ...paths]) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", d);
    line.setAttribute("class", kind);
    svg.append(line);
  }
  return svg;
}

// Returns the name that people read the function of a row by; its `title` is the whole expression.
function functionName(row) {
  const { names, readable } = shown.functions;
  return element("code", readable[row] ?? names[row], { title: names[row] });
}

function showCard(event) {
  const point = event.points[0];
  if (point.customdata === undefined) return;
  const number = point.customdata, table = shown.functions, card = $("card");
  const rows = [
    [shown.metric, table.value[number]],
    ["test", table.test[number]],
    ["predicted", table.predicted[number]],
    ["step time relative to ReLU", table.time_ratio[number]],
    ["status", table.status[number] || "not trained"],
    ["origin", table.number[number] === null ? null : `${table.origin[number]}, number ${table.number[number]}`],
  ];
  const list = element("dl");
  for (const [name, value] of rows) {
    if (value !== null) list.append(element("dt", name), element("dd", value));
  }
  card.replaceChildren(functionName(number), drawing(number), list);
  card.hidden = false;
  const at = event.event, room = document.documentElement.clientWidth;
  card.style.left = `${Math.max(4, Math.min(at.clientX + 14, room - card.offsetWidth - 8)) + window.scrollX}px`;
  card.style.top = `${at.clientY + 14 + window.scrollY}px`;
}

function hideCard() {
  $("card").hidden = true;
}

let watching = null; // marks the link of the section in view

function fillContents() {
  const list = element("ul");
  const links = new Map();
  for (const section of [...document.querySelectorAll("main section[id]")]) {
    const link = element("a", section.querySelector("h2").textContent, { href: `#${section.id}` });
    links.set(section, link);
    const item = element("li");
    item.append(link);
    list.append(item);
  }
  $("contents").replaceChildren(...(links.size ? [list] : []));
  watching?.disconnect();
  watching = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(target);
      link.setAttribute("aria-current", "location");
      list.scrollTo({ left: link.offsetLeft - list.clientWidth / 3 }); // of use where the list is a line
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const section of links.keys()) watching.observe(section);
}

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function keptTheme() {
  try { return localStorage.getItem("aquasurf-theme") || "auto"; } catch { return "auto"; } // a page may have no storage
}

function setTheme(name) {
  const known = name in THEMES ? name : "auto";
  if (known === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = known;
  $("theme").textContent = THEMES[known];
  try { localStorage.setItem("aquasurf-theme", known); } catch { /* the choice lasts as long as the page */ }
  return known;
}

function startThemes() {
  let theme = setTheme(keptTheme());
  const redraw = () => { if (window.Plotly) draw(); };
  $("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    theme = setTheme(names[(names.indexOf(theme) + 1) % names.length]);
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

async function start() {
  startThemes();
  if (LIVE) { follow(); return; }
  fillReport();
  await loadPlotly();
  await draw();
}

function fillReport() {
  fillContents();
  addChoices();
  sortTables();
  fillFunctions();
}

start();
