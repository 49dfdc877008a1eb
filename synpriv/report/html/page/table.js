/** What a cell of the table is sorted by: a number, a text, or null, which always comes last. */
function sortKey(row, column) {
  const value = row.cells[column].dataset.sort;
  if (value === undefined) return null;
  const number = Number(value);
  return value.trim() === "" || Number.isNaN(number) ? value.toLowerCase() : number;
}

/** Order of two keys; what is missing is last whichever way the others go. */
function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === typeof b) return sign * (a < b ? -1 : a > b ? 1 : 0);
  return typeof a === "number" ? -1 : 1;
}

function sortTable(header) {
  const body = byId("table").tBodies[0];
  const column = header.cellIndex;
  const falling = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const keyed = [...body.rows].map((row) => ({ row, key: sortKey(row, column) }));
  keyed.sort((a, b) => compare(a.key, b.key, falling ? -1 : 1));
  body.append(...keyed.map(({ row }) => row));
}

/** What a word without `=` is looked for in: names, and no settings. */
function namesOf(cell) {
  const named = [cell.name, cell.cell, cell.method, cell.short, cell.dataset, cell.canary];
  return [...named, cell.attack].join("\n").toLowerCase();
}

/** Values of a cell's settings of which the key is `key` or ends with it. */
function valuesOf(cell, key) {
  return Object.entries(cell.settings)
    .filter(([name]) => `.${name.toLowerCase()}`.endsWith(`.${key}`))
    .map(([, value]) => settingText(value).toLowerCase());
}

/** Whether a cell has a word of the search; `key=value`: such a setting, or one that begins so. */
function searcher(word) {
  const at = word.indexOf("=");
  if (at < 0) return (cell) => namesOf(cell).includes(word);
  const [key, value] = [word.slice(0, at), word.slice(at + 1)];
  const exact = view.cells.some((cell) => valuesOf(cell, key).includes(value));
  return (cell) =>
    valuesOf(cell, key).some((own) => (exact ? own === value : own.startsWith(value)));
}

/** A setting as it is written on a command line. */
function settingText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Ids of the cells that the form lets through. */
function chosenCells() {
  const form = byId("filters");
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const searchers = words.map(searcher);
  const is = (field, value) =>
    form.elements[field].value === "" || form.elements[field].value === value;
  const chosen = view.cells.filter(
    (cell) =>
      is("dataset", cell.dataset) &&
      is("attack", cell.attack) &&
      is("verdict", cell.verdict.kind) &&
      searchers.every((fits) => fits(cell)),
  );
  return new Set(chosen.map((cell) => cell.id));
}

/** Show what the form lets through: cards, rows and pages of single audits. */
function applyFilters() {
  const chosen = chosenCells();
  for (const element of document.querySelectorAll("main [data-cell]")) {
    element.hidden = !chosen.has(element.dataset.cell);
  }
  for (const line of document.querySelectorAll(".nothing")) line.hidden = chosen.size > 0;
  const all = view.cells.length;
  for (const more of document.querySelectorAll(".more")) {
    more.hidden = !more.querySelector("[data-cell]:not([hidden])");
    if (chosen.size < all) more.open = true;
  }
  for (const group of document.querySelectorAll(".kind")) {
    group.hidden = !group.querySelector("[data-cell]:not([hidden])");
  }
  byId("filters").elements.count.value =
    chosen.size === all ? `${all} audits` : `${chosen.size} of ${all} audits`;
}

/** The options of a choice: `pairs` of value and words, each once. */
function fill(select, entries) {
  const unique = new Map(entries);
  select.replaceChildren(
    ...[...unique].map(([value, words]) => {
      const option = make("option", { text: words });
      option.value = value;
      return option;
    }),
  );
}

/** @param {() => void} changed called after cards and rows follow the form */
function setUpTable(changed) {
  const form = byId("filters");
  const choice = (field, of) => fill(form.elements[field], [["", "all"], ...view.cells.map(of)]);
  choice("dataset", (cell) => [cell.dataset, cell.dataset]);
  choice("attack", (cell) => [cell.attack, cell.attack]);
  choice("verdict", (cell) => [cell.verdict.kind, cell.verdict.words]);
  const follow = () => {
    applyFilters();
    changed();
  };
  form.addEventListener("input", follow);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(follow));
  for (const header of byId("table").tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sortTable(header));
  }
  applyFilters();
}
