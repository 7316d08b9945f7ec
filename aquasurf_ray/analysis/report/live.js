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
    { name: "status", of: (run) => run.status, shown: listedStatus },
    { name: "results", of: (run) => run.evaluations, shown: resultsText, down: true },
    { name: "diverged", of: (run) => run.diverged, shown: (run) => String(run.diverged), down: true },
    { name: "failed", of: (run) => run.failed, shown: (run) => String(run.failed), down: true },
    { name: "best", of: (run) => (run.best === null ? null : [run.metric, run.score]), shown: listedBest, down: true },
    { name: "of function", of: (run) => run.best_function, shown: (run) => (run.best_function ? element("code", run.best_function) : "") },
    { name: "created", of: (run) => run.created, shown: (run) => timeElement(run.created), down: true },
    { name: "note", of: (run) => run.note, shown: (run) => run.note },
  ];
  const table = dataTable(columns, "All runs of this store", { column: 9, down: true });
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

// Values of different metrics do not compare, so they are sorted within their metric, the best one first.
function listedBest(run) {
  if (run.best === null) return "";
  const kind = run.confirmed ? " (confirmed)" : run.averaged ? " (mean)" : "";
  return element("span", `${run.metric} ${metricText(run.best)}${kind}`, { title: bestText(run) });
}

function listedStatus(run) {
  const status = statusElement(run.status);
  if (run.exhausted) status.append(" (exhausted)");
  return status;
}

// Both numbers count the baselines, which a budget does not.
function resultsText(run) {
  return run.wanted === null ? String(run.evaluations) : `${run.evaluations} of ${run.wanted}`;
}

function statusElement(status) {
  return element("span", status, ["dead", "silent", "failed"].includes(status) ? { class: "bad" } : {});
}

function timeElement(text) {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return element("time", today ? at.toLocaleTimeString() : at.toLocaleString(), { datetime: text });
}

// A time in its two largest units, the smaller one rounded, as duration_text.py writes it: 45 s, 3 h 20 min, 2 d 4 h.
function spoken(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  for (const [i, [unit, word]] of units.entries()) {
    const [smaller, smallerWord] = units[i + 1] ?? [1, ""];
    const whole = Math.round(seconds / smaller) * smaller; // rounding comes first: 3599.9 s must become 1 h
    if (whole < unit && unit > 1) continue;
    const rest = (whole % unit) / smaller;
    return `${Math.floor(whole / unit)} ${word}${rest ? ` ${rest} ${smallerWord}` : ""}`;
  }
}

async function followNow() {
  const form = $("note-form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = form.elements.text.value.trim();
    if (!text) return;
    const sent = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text }) };
    const why = await refusal(`${LIVE.run}/note`, sent);
    $("note-refused").textContent = why === null ? "" : `The note was not stored: ${why}`;
    if (why === null) form.reset();
  });
  for (;;) {
    const found = await ask(`${LIVE.run}/status.json`);
    if (found) showNow(found);
    await pause(POLL_SECONDS);
  }
}

// Returns why the server refused what was sent; null if it was accepted.
async function refusal(path, sent) {
  try {
    const answer = await fetch(path, sent);
    if (answer.ok) return null;
    const found = await answer.json();
    return found.error ?? found.waiting;
  } catch {
    return "the server has stopped";
  }
}

function bestText(run) {
  if (run.best === null) return "";
  const kind = run.confirmed ? ` (confirmed: ${run.confirmed})` : run.averaged ? ` (mean over ${run.averaged} seeds)` : "";
  return `${run.metric} ${metricText(run.best)}${kind}`;
}

function showNow(now) {
  const isRunning = now.status === "running";
  $("now-status").replaceChildren(statusElement(now.status), now.message ? `: ${now.message}` : "");
  if (now.again) $("now-status").append("; resume with: ", element("code", now.again));
  $("now-bar").hidden = now.wanted === null;
  // What failed for good leaves a finished run without some of its results.
  $("now-bar").max = Math.max(now.status === "finished" ? now.evaluations : now.wanted, 1);
  $("now-bar").value = now.evaluations;
  const parts = [`${resultsText(now)} ${(now.wanted ?? now.evaluations) === 1 ? "result" : "results"}`];
  if (now.exhausted) parts.push("all candidates are used up");
  if (now.spectra !== null) parts.push(`spectra ${now.spectra} of ${now.candidates}`);
  if (isRunning && now.per_hour !== null) parts.push(`${now.per_hour.toFixed(1)} an hour`);
  if (isRunning && now.seconds_left !== null) parts.push(`about ${spoken(now.seconds_left)} left`);
  $("now-progress").textContent = `${parts.join(", ")}.`;
  const what = now.confirmed || now.averaged ? "Best function" : "Best so far";
  const best = now.best_function ? [`${what}: ${bestText(now)}, `, element("code", now.best_function)] : [now.evaluations ? "No score yet." : "No result yet."];
  $("now-best").replaceChildren(...best);
  $("now-failures").textContent = failureText(now);
  $("now-causes").replaceChildren(...now.causes.map((cause) => element("li", `${cause.n} x ${cause.text}`)));
  if (now.loops.length) showProcesses(LOOP_COLUMNS, now.loops, "Processes of the study", "");
  else if (now.workers.length && isRunning) showProcesses(WORKER_COLUMNS, now.workers, "Workers", `as of ${Math.round(now.age)} s ago`);
  else showNoWorker(isRunning ? "No worker has reported yet." : "No worker: the run is not running.");
  $("now-events").replaceChildren(...now.events.map((event) => {
    const item = element("li");
    item.append(timeElement(event.at), event.text);
    return item;
  }));
  $("now").dataset.shown = "yes";
  announce(`${now.status}, ${now.evaluations} ${now.evaluations === 1 ? "result" : "results"}`);
}

function failureText(now) {
  if (!now.diverged && !now.failed && !now.causes.length) return "No failures.";
  return `${now.diverged} diverged (loss or outputs not finite); ${now.failed} failed (infrastructure or task errors).`;
}

const WORKER_COLUMNS = [
  { name: "worker", of: (worker) => worker.worker, shown: (worker) => worker.worker },
  { name: "state", of: (worker) => worker.state, shown: (worker) => worker.state },
  { name: "job", of: (worker) => worker.job, shown: (worker) => worker.job ?? "" },
  { name: "epochs done", of: (worker) => worker.epoch, shown: (worker) => worker.epoch?.toString() ?? "", down: true },
  { name: "for", of: (worker) => worker.seconds, shown: (worker) => spoken(worker.seconds), down: true },
  { name: "device", of: (worker) => worker.device, shown: (worker) => worker.device ?? "" },
  { name: "GPU", of: (worker) => worker.gpu_percent, shown: gpuText, down: true },
  { name: "node", of: (worker) => worker.node, shown: (worker) => worker.node ?? "" },
];
const LOOP_COLUMNS = [ // of a study, whose trainings are in the loops of its processes
  { name: "process", of: (loop) => loop.pid, shown: (loop) => `${loop.host} pid ${loop.pid}` },
  { name: "trains", of: (loop) => loop.trains, shown: (loop) => element("code", loop.trains) },
  { name: "state", of: (loop) => loop.state, shown: (loop) => statusElement(loop.state) },
  { name: "last heartbeat", of: (loop) => loop.heartbeat_age, shown: (loop) => `${Math.round(loop.heartbeat_age)} s ago`, down: true },
];
let workerTable = null; // and `names`, those of its columns

function gpuText(worker) {
  if (worker.gpu_percent === null) return "";
  return `${Math.round(worker.gpu_percent)} %${worker.gpu_gb ? `, ${worker.gpu_gb} GB` : ""}`;
}

function showNoWorker(why) {
  workerTable = null;
  $("now-workers").replaceChildren(element("p", why));
}

// Columns that no process has a value for are left out, so the table is made again when others are filled.
function showProcesses(columns, processes, caption, age) {
  const used = columns.filter((column) => processes.some((each) => column.shown(each) !== ""));
  const names = used.map((column) => column.name).join();
  if (workerTable?.names !== names) {
    workerTable = { names, ...dataTable(used, caption, { column: 0, down: false }), age: element("p") };
    $("now-workers").replaceChildren(workerTable.host, workerTable.age);
  }
  workerTable.fill(processes);
  workerTable.age.textContent = age;
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
  curves = curvesOf(shown.functions);
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
