/** Okabe and Ito's colours and a marker per paradigm; css holds the shades for light and dark. */
const MARKERS = {
  undefended: "star",
  dpsgd: "circle",
  coreset: "square",
  distill: "diamond",
  dfkd: "triangle-up",
  diffusion: "triangle-down",
};
const CONFIG = {
  displaylogo: false,
  showSendToCloud: false,
  responsive: true,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  toImageButtonOptions: { format: "svg", filename: "synpriv" },
};
const figures = new Map(); // element -> function that draws it

/** Run the Plotly that the page carries; its hash is in the page's policy. */
async function loadPlotly() {
  const script = document.createElement("script");
  script.textContent = await inflate("plotly");
  document.head.append(script);
}

/** A colour of page.css as it is now, light or dark. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function paradigmColour(paradigm) {
  return colour(Object.hasOwn(MARKERS, paradigm) ? `paradigm-${paradigm}` : "paradigm-other");
}

function paradigmSymbol(paradigm) {
  return Object.hasOwn(MARKERS, paradigm) ? MARKERS[paradigm] : "x";
}

/** A text in a figure: no tag, entity or TeX, no longer than a label may be; ends often differ. */
function label(text, longest = 48) {
  const whole = [...plain(text)];
  const tail = Math.floor((longest - 1) / 2);
  const cut =
    whole.length > longest
      ? [...whole.slice(0, longest - 1 - tail), "\u2026", ...whole.slice(-tail)]
      : whole;
  const signs = { "&": "&amp;", "<": "&lt;", ">": "&gt;", $: "&#36;" };
  return cut.join("").replace(/[&<>$]/g, (sign) => signs[sign]);
}

/** A label per cell, by its id, no two alike: with the attack where names repeat, else numbered. */
function distinctLabels(some, longest) {
  const repeated = (texts) => new Set(texts.filter((text, i) => texts.indexOf(text) !== i));
  const again = repeated(some.map((cell) => cell.short));
  const texts = some.map((cell) =>
    again.has(cell.short) ? `${cell.short}, ${cell.attack}` : cell.short,
  );
  const alike = repeated(texts.map((text) => label(text, longest)));
  return new Map(
    some.map((cell, i) => {
      const same = alike.has(label(texts[i], longest));
      const number = same ? `${cell.id}: ` : ""; // as its address: report.html#cell-c3
      return [cell.id, label(number + texts[i], longest)];
    }),
  );
}

/** An axis in the page's colours. */
function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: colour("grid"),
    linecolor: colour("line"),
    zeroline: false,
    ticks: "outside",
    tickcolor: colour("line"),
    automargin: true,
    ...more,
  };
}

/** A logarithmic axis from `low` to `high` with a tick per decade, as per cent. */
function logAxis(title, low, high, more = {}) {
  const decades = [];
  for (let power = Math.ceil(Math.log10(low)); power <= 0; power += 1) decades.push(10 ** power);
  const range = [Math.log10(low), Math.log10(high)];
  const ticks = {
    tickvals: decades,
    ticktext: decades.map((share) => `${short(100 * share, 2)}%`),
  };
  return axis(title, {
    type: "log",
    range,
    minor: { dtick: "D1", showgrid: false },
    ...ticks,
    ...more,
  });
}

/** Draw into an element, in the colours and the font of the page. */
function draw(element, traces, layout) {
  element.querySelector(".wait")?.remove();
  const hoverlabel = {
    bgcolor: colour("card"),
    bordercolor: colour("line"),
    font: { color: colour("text"), size: 13 },
    align: "left",
  };
  return Plotly.react(
    element,
    traces,
    {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hovermode: "closest",
      hoverlabel,
      font: { family: "system-ui, sans-serif", size: 13, color: colour("text") },
      margin: { l: 56, r: 12, t: 12, b: 44 },
      ...layout,
    },
    CONFIG,
  );
}

/** Draw now and again when the page turns dark or light. */
function figure(element, drawIt) {
  figures.set(element, drawIt);
  drawIt();
}

function drawAll() {
  for (const [element, drawIt] of figures) if (element.isConnected) drawIt();
}

const PAPER = 680; // pixels across a printed page
const NARROW = "(max-width: 48rem)"; // as in page.css

/** Draw again for light, dark, phones and paper. */
function followMedia() {
  for (const media of ["(prefers-color-scheme: dark)", NARROW])
    matchMedia(media).addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    for (const element of figures.keys()) Plotly.relayout(element, { width: PAPER });
  });
  addEventListener("afterprint", drawAll);
}
