const AT_FIRST = 5; // curves
// Okabe and Ito (2008), by their names in page.css; dashes tell further ones apart.
const LINES = ["line-1", "line-2", "line-3", "line-4", "line-5", "line-6"];
const DASHES = ["solid", "dash", "dot", "dashdot"];

function chosenCurves() {
  const boxes = byId("roc-chosen").querySelectorAll("label:not([hidden]) input:checked");
  return [...boxes].map((box) => cells.get(box.value));
}

/** A curve on log axes; what lies below the floor stands on it. */
function curveTrace(cell, floor, name) {
  const i = view.cells.indexOf(cell);
  const words = cell.roc.fpr.map(
    (fpr, k) =>
      `<b>${label(cell.name, 80)}</b><br>TPR ${percent(cell.roc.tpr[k])} at FPR ${percent(fpr)}`,
  );
  return {
    type: "scatter",
    mode: "lines",
    name,
    hoverinfo: "text",
    hovertext: words,
    x: cell.roc.fpr.map((fpr) => Math.max(fpr, floor)),
    y: cell.roc.tpr.map((tpr) => Math.max(tpr, floor)),
    line: {
      color: colour(LINES[i % LINES.length]),
      width: 2,
      shape: "hv",
      dash: DASHES[Math.floor(i / LINES.length) % DASHES.length],
    },
  };
}

/** Left of where all chosen curves are resolved. */
function unresolvedShape(until, floor) {
  return {
    type: "rect",
    xref: "x",
    yref: "paper",
    x0: floor,
    x1: until,
    y0: 0,
    y1: 1,
    fillcolor: colour("unclear"),
    line: { width: 0 },
    layer: "below",
  };
}

function drawRoc() {
  const chosen = chosenCurves();
  const floor = Math.min(1e-3, ...chosen.map((cell) => 1 / Math.max(cell.n_in, cell.n_out)));
  const until = Math.max(0, ...chosen.map((cell) => cell.roc.resolved_from));
  const chance = {
    type: "scatter",
    mode: "lines",
    x: [floor, 1],
    y: [floor, 1],
    name: "chance",
    hoverinfo: "skip",
    line: { color: colour("muted"), dash: "dash", width: 1.5 },
  };
  const called = distinctLabels(chosen, 28);
  const curves = chosen.map((cell) => curveTrace(cell, floor, called.get(cell.id)));
  draw(byId("roc-plot"), [chance, ...curves], {
    xaxis: logAxis("false positive rate", floor, 1),
    yaxis: logAxis("true positive rate", floor, 1.1),
    shapes: until > floor ? [unresolvedShape(Math.min(until, 1), floor)] : [],
    showlegend: true,
    legend: { orientation: "h", x: 0, y: -0.16, yanchor: "top" },
  });
  byId("roc-words").textContent = chosen.length
    ? `Shaded: FPR below ${percent(until)}, where fewer than ten non-members are accused and a curve is mostly noise.`
    : "No audit is chosen.";
}

/** A box per audit; the first few are chosen. */
function fillCurves() {
  const boxes = view.cells.map((cell, i) => {
    const box = make("input", { type: "checkbox", value: cell.id });
    box.checked = i < AT_FIRST;
    return make("label", { "data-cell": cell.id }, box, make("bdi", { text: cell.name }));
  });
  byId("roc-chosen").append(...boxes);
}

function setUpRoc() {
  byId("roc-chosen").addEventListener("change", drawRoc);
  figure(byId("roc-plot"), drawRoc);
}
