// Signs that make a spreadsheet calculate; as synpriv.report.inert.cell.
const FORMULA = /^[=+\-@\uff1d\uff0b\uff0d\uff20]/;

/** A value as a field of a csv file: numbers as they are, texts inert. */
function csvField(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = plain(value);
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** All canaries of a cell as csv. */
function canariesCsv(cell) {
  const columns = { ...cell.all_canaries };
  columns.largest_by_chance = columns.canary.map(() => cell.most_exposed_null);
  const names = Object.keys(columns);
  const rows = columns.canary.map((_, i) => names.map((name) => csvField(columns[name][i])));
  return [names, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

const CANARY_COLUMNS = ["middle", "", "", "", "", "middle", "near"];

/** Hand a text to the browser as a file. */
function download(text, name) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const link = make("a", {
    href: address,
    download: name.replace(/[^A-Za-z0-9_.-]+/g, "_").slice(0, 100),
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function nearestPart(canary) {
  const { nearest } = canary;
  if (nearest === null) return absent(canary.no_nearest);
  const beside = `distance ${short(nearest.distance)} in model ${nearest.seed}; as near in ${nearest.as_near} of ${nearest.out} models without it: chance gives so few for about ${percent(nearest.chance)} of canaries`;
  return make(
    "span",
    { class: "nearest" },
    picture(nearest.picture, `nearest released image to canary ${canary.canary}`),
    make("span", { class: "beside", text: beside }),
  );
}

/** An effect, and in words if it is no larger than the largest that chance gives. */
function effectPart(cell, canary) {
  const shown = `${short(canary.effect)} sd`;
  if (!byChance(canary.effect, cell.most_exposed_null)) return shown;
  return make(
    "span",
    { class: "muted" },
    make("span", { text: shown }),
    make("span", { class: "beside", text: NO_MORE }),
  );
}

function foundPart(canary) {
  if (canary.found === null) return absent("no threshold at an FPR of 1%");
  const without = canary.accused === null ? "" : `${percent(canary.accused)} of those without it`;
  return make(
    "span",
    {},
    make("span", { text: percent(canary.found) }),
    make("span", { class: "beside", text: without }),
  );
}

/** The most exposed canaries, and a file of all. */
function canariesPart(cell) {
  const rows = cell.canaries.map((canary) => [
    make(
      "span",
      {},
      make("span", { text: canary.canary }),
      make("span", { class: "beside", text: canary.place ?? "place not known" }),
    ),
    picture(canary.picture, `canary ${canary.canary}`, canary.no_picture),
    canary.trained_label,
    canary.true_label,
    effectPart(cell, canary),
    foundPart(canary),
    nearestPart(canary),
  ]);
  const head = [
    "Canary",
    "Picture",
    "Trained as",
    "Truly",
    `Effect (largest by chance: ${upTo(cell.most_exposed_null)})`,
    "Found in models with it",
    "Nearest released image",
  ];
  const button = make("button", {
    type: "button",
    text: `All ${cell.all_canaries.canary.length} canaries as csv`,
  });
  button.addEventListener("click", () =>
    download(canariesCsv(cell), `${cell.cell}-${cell.attack}-canaries.csv`),
  );
  const found = rows.length
    ? table("The most exposed canaries", head, rows, CANARY_COLUMNS)
    : absent("no canary is listed");
  const together =
    cell.nearness_in_words === null
      ? []
      : [make("p", { class: "note", text: `Released images: ${cell.nearness_in_words}.` })];
  return make("div", {}, ...together, found, make("p", {}, button));
}
