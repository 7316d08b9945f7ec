// The pages of `aquasurf watch`: the list of a store's runs, and a run with what happens in it now. The server's end is
// no error: a page stays as it was last.

const POLL_SECONDS = 2;
let announced = ""; // what a screen reader was told last

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

function follow() {
  if (LIVE.runs) followRuns();
  else { followNow(); followReport(); }
}

// Returns null while there is no answer, and says so on the page.
async function ask(path, headers = {}) {
  const note = $("live");
  try {
    const answer = await fetch(path, { cache: "no-store", headers });
    if (answer.status === 304) return null;
    const found = await answer.json();
    note.textContent = found.waiting ? `Waiting: ${found.waiting}` : "";
    return answer.ok && !found.waiting ? found : null;
  } catch {
    note.textContent = "The server has stopped; this page shows its last state.";
    return null;
  }
}

async function followRuns() {
  const columns = [
    { name: "run", of: (run) => run.run, shown: (run) => element("a", run.run, { href: `/run/${encodeURIComponent(run.run)}` }) },
    { name: "task", of: (run) => run.task, shown: (run) => run.task },
    { name: "kind", of: (run) => run.kind, shown: (run) => run.kind },
    { name: "status", of: (run) => run.status, shown: (run) => statusElement(run.status) },
    { name: "results", of: (run) => run.evaluations, shown: (run) => String(run.evaluations), down: true },
    { name: "budget", of: (run) => run.budget, shown: (run) => run.budget?.toString(), down: true },
    { name: "diverged", of: (run) => run.diverged, shown: (run) => String(run.diverged), down: true },
    { name: "failed", of: (run) => run.failed, shown: (run) => String(run.failed), down: true },
    { name: "best training", of: (run) => run.best, shown: (run) => (run.best === null ? "" : `${run.metric} ${number(run.best, 4)}`), down: true },
    { name: "of function", of: (run) => run.best_function, shown: (run) => (run.best_function ? element("code", run.best_function) : "") },
    { name: "created", of: (run) => run.created, shown: (run) => timeElement(run.created), down: true },
    { name: "note", of: (run) => run.note, shown: (run) => run.note },
  ];
  const table = dataTable(columns, "All runs of this store", { column: 10, down: true });
  $("runs").append(table.host);
  let before = "";
  for (;;) {
    const found = await ask("/runs.json");
    const text = JSON.stringify(found);
    if (found && text !== before) {
      before = text;
      table.fill(found.runs);
      $("none").hidden = found.runs.length > 0;
      document.body.dataset.drawn = "1";
    }
    await pause(POLL_SECONDS);
  }
}

function statusElement(status) {
  return element("span", status, ["dead", "silent", "failed"].includes(status) ? { class: "bad" } : {});
}

function timeElement(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return element("time", today ? at.toLocaleTimeString() : at.toLocaleString(), { datetime: text });
}

// Seconds as people say them: 45 s, 12 min, 3 h 20 min, 2 d 4 h.
function spoken(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

async function followNow() {
  const form = $("note-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = form.elements.text.value.trim();
    if (!text) return;
    const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }) };
    const answer = await fetch(`${LIVE.run}/note`, sent).catch(() => null);
    $("live").textContent = answer?.ok ? "" : "The note was not stored.";
    if (answer?.ok) form.reset();
  });
  for (;;) {
    const found = await ask(`${LIVE.run}/status.json`);
    if (found) showNow(found);
    await pause(POLL_SECONDS);
  }
}

function showNow(now) {
  const isAtWork = now.status === "running";
  $("now-status").replaceChildren(statusElement(now.status), now.message ? `: ${now.message}` : "");
  $("now-bar").hidden = now.budget === null;
  $("now-bar").max = Math.max(now.wanted, 1);
  $("now-bar").value = now.evaluations;
  const parts = [`${now.evaluations}${now.budget === null ? "" : ` of ${now.wanted}`} results`, `spectra ${now.spectra} of ${now.candidates}`];
  if (isAtWork && now.per_hour !== null) parts.push(`${now.per_hour.toFixed(1)} an hour`);
  if (isAtWork && now.seconds_left !== null) parts.push(`about ${spoken(now.seconds_left)} left`);
  $("now-progress").textContent = `${parts.join(", ")}.`;
  const best = now.best_function ? [`Best training so far: ${now.metric} ${number(now.best, 4)}, `, element("code", now.best_function)] : ["No result yet."];
  $("now-best").replaceChildren(...best);
  $("now-failures").textContent = failureText(now);
  $("now-causes").replaceChildren(...now.causes.map((cause) => element("li", `${cause.n} x ${cause.text}`)));
  $("now-workers").replaceChildren(...(isAtWork ? workerElements(now) : [element("p", "No worker: the run is not at work.")]));
  $("now-events").replaceChildren(...now.events.map((event) => {
    const item = element("li");
    item.append(timeElement(event.at), event.text);
    return item;
  }));
  $("now").dataset.shown = "yes";
  announce(`${now.status}, ${now.evaluations} results`);
}

function failureText(now) {
  if (!now.diverged && !now.failed && !now.causes.length) return "No failures.";
  return `${now.diverged} diverged, which is the function's fault; ${now.failed} failed, which is the machine's.`;
}

function workerElements(now) {
  if (!now.workers.length) return [element("p", "No worker has reported yet.")];
  const rows = now.workers.map((worker) => [
    worker.worker, worker.state, worker.job ?? "", worker.epoch ?? "", spoken(worker.seconds), worker.device ?? "",
    worker.gpu_percent === null ? "" : `${Math.round(worker.gpu_percent)} %${worker.gpu_gb ? `, ${worker.gpu_gb} GB` : ""}`, worker.node ?? "",
  ]);
  const names = ["worker", "state", "job", "epochs done", "for", "device", "GPU", "node"];
  const used = names.map((_, i) => rows.some((row) => row[i] !== ""));
  const table = element("table", undefined, { role: "table" });
  const line = (cells, kind, attributes) => {
    const made = element("tr", undefined, { role: "row" });
    cells.forEach((cell, i) => { if (used[i]) made.append(element(kind, String(cell), { ...attributes, "data-label": names[i] })); });
    return made;
  };
  const head = element("thead", undefined, { role: "rowgroup" }), body = element("tbody", undefined, { role: "rowgroup" });
  head.append(line(names, "th", { scope: "col", role: "columnheader" }));
  body.append(...rows.map((row) => line(row, "td", { role: "cell" })));
  table.append(element("caption", "Workers", { class: "hidden" }), head, body);
  return [table, element("p", `as of ${Math.round(now.age)} s ago`)];
}

// A screen reader is told when the number of results or the status changes, and not of every second.
function announce(text) {
  if (text !== announced) $("said").textContent = text;
  announced = text;
}

function sameSections(other) {
  const key = (from) => from.sections.map((section) => [section.id, section.figures.length]).join();
  return key(shown) === key(other);
}

async function followReport() {
  const plotly = loadPlotly().then(() => true, () => false);
  for (;;) {
    const fresh = await ask(`${LIVE.run}/document.json`, { "If-None-Match": shown.version || "" });
    if (fresh) await showReport(fresh, await plotly);
    await pause(POLL_SECONDS);
  }
}

async function showReport(fresh, hasPlotly) {
  const same = sameSections(fresh);
  shown = fresh;
  curves = bytes(shown.functions.curves);
  if (same) {
    $("heading").innerHTML = shown.heading;
    for (const section of shown.sections) $(`${section.id}-words`).innerHTML = section.html;
  } else {
    $("report").innerHTML = shown.body;
    functions = null;
  }
  fillReport();
  if (hasPlotly) await draw();
  else $("live").textContent = "No charts: they need Plotly, which this installation lacks: pip install plotly";
}
