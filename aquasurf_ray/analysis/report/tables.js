// Tables that sort: by a click on a column's name, or Enter on it. A cell's `data-value` is what it is sorted by.

const PAGE_ROWS = 50;
const sorts = {}; // by the section of a table: its column, and whether the highest comes first

function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent;
  const number = Number.parseFloat(text);
  return Number.isNaN(number) ? text : number;
}

// What is missing comes last in either direction. A pair is a group, in a fixed order, and a value within it.
function compare(a, b, down) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (Array.isArray(a)) return compare(a[0], b[0], false) || compare(a[1], b[1], down);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return down ? -order : order;
}

function markSorted(heads, column, down) {
  heads.forEach((head, i) => {
    if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function sortButton(text, sort) {
  const button = element("button", text, { type: "button", title: `Sort by ${text}` });
  button.addEventListener("click", sort);
  return button;
}

// The tables that the document has as HTML: they are sorted again after an update has replaced them. The first click on
// a column sorts it upwards, or downwards if its heading has `data-down`.
function sortTables() {
  for (const table of document.querySelectorAll("table.sortable:not([data-sorts])")) {
    table.dataset.sorts = "yes";
    const key = table.closest("section").id;
    const heads = [...table.tHead.rows[0].cells];
    const sort = () => {
      if (!sorts[key]) return;
      const { column, down } = sorts[key];
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(valueOf(a.cells[column]), valueOf(b.cells[column]), down));
      table.tBodies[0].append(...rows);
      markSorted(heads, column, down);
    };
    heads.forEach((head, column) => {
      head.replaceChildren(sortButton(head.textContent, () => {
        sorts[key] = { column, down: sorts[key]?.column === column ? !sorts[key].down : "down" in head.dataset };
        sort();
      }));
    });
    sort();
  }
}

// A table of data: columns are { name, of(row): its value, shown(row): its text or element, down: highest first }.
function dataTable(columns, caption, sorted) {
  const table = element("table", undefined, { role: "table" });
  const head = element("tr", undefined, { role: "row" });
  const body = element("tbody", undefined, { role: "rowgroup" });
  let rows = [], most = PAGE_ROWS;
  const more = element("button", "", { type: "button" });
  const heads = columns.map((column, i) => {
    const cell = element("th", undefined, { scope: "col", role: "columnheader" });
    cell.append(column.of ? sortButton(column.name, () => {
      sorted = { column: i, down: sorted.column === i ? !sorted.down : Boolean(column.down) };
      show();
    }) : column.name);
    return cell;
  });
  head.append(...heads);
  const group = element("thead", undefined, { role: "rowgroup" });
  group.append(head);
  table.append(element("caption", caption, { class: "hidden" }), group, body);
  more.addEventListener("click", () => { most += PAGE_ROWS; show(); });

  function show() {
    const { of } = columns[sorted.column];
    const order = [...rows].sort((a, b) => compare(of(a), of(b), sorted.down));
    body.replaceChildren(...order.slice(0, most).map((row) => {
      const line = element("tr", undefined, { role: "row" });
      for (const column of columns) {
        const cell = element("td", undefined, { role: "cell", "data-label": column.name });
        cell.append(column.shown(row) ?? "");
        line.append(cell);
      }
      return line;
    }));
    markSorted(heads, sorted.column, sorted.down);
    more.hidden = rows.length <= most;
    more.textContent = `Show more of ${rows.length.toLocaleString("en")}`;
  }

  const host = element("div", undefined, { class: "table" });
  host.append(table, more);
  return { host, fill(found) { rows = found; show(); } };
}

// Returns a value of the metric as text, as value_text.py writes it: 0.2500, 1.200e-08.
function metricText(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  const isOrdinary = size >= 1e-3 || Number(value.toFixed(4)) === value;
  if (isOrdinary && size < 1e6) return number(value, 4);
  return value.toExponential(3).replace(/e([+-])(\d)$/, "e$10$2");
}

// Returns a number as text; one that is rounded to zero has no sign.
function number(value, digits) {
  if (value === null || value === undefined) return "";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

let functions = null; // the table of all functions, with the words that it is searched for

function functionColumns() {
  const of = (key) => (row) => shown.functions[key][row];
  return [
    { name: "curve", shown: (row) => drawing(row, 60, 33) },
    { name: "function", of: of("names"), shown: functionName },
    { name: shown.metric, of: of("value"), shown: (row) => metricText(shown.functions.value[row]), down: shown.higher_is_better },
    { name: "test", of: of("test"), shown: (row) => metricText(shown.functions.test[row]), down: shown.higher_is_better },
    { name: "status", of: of("status"), shown: (row) => shown.functions.status[row] ?? "not trained" },
    { name: "step time", of: of("time_ratio"), shown: (row) => number(shown.functions.time_ratio[row], 2) },
    { name: "predicted", of: of("predicted"), shown: (row) => metricText(shown.functions.predicted[row]), down: shown.higher_is_better },
    { name: "origin", of: of("origin"), shown: (row) => shown.functions.origin[row] },
    { name: "number", of: of("number"), shown: (row) => shown.functions.number[row]?.toString() },
  ];
}

function fillFunctions() {
  const host = $("all-choices");
  if (!host) return;
  if (!host.firstChild) {
    const table = dataTable(functionColumns(), "All functions of the run", { column: 2, down: shown.higher_is_better });
    const label = element("label", "Find functions that contain ");
    const find = element("input", undefined, { type: "search", placeholder: "sigmoid" });
    const count = element("span", "", { role: "status" });
    label.append(find);
    host.append(label, count);
    host.after(table.host);
    functions = { table, find, count };
    find.addEventListener("input", showFunctions);
  }
  showFunctions();
}

function showFunctions() {
  const words = functions.find.value.toLowerCase();
  const { names, readable } = shown.functions;
  const has = (text) => text?.toLowerCase().includes(words);
  const rows = [...names.keys()].filter((row) => has(names[row]) || has(readable[row]));
  functions.count.textContent = `${rows.length.toLocaleString("en")} of ${names.length.toLocaleString("en")} functions`;
  functions.table.fill(rows);
}
