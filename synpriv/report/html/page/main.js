/** Resolves when figures can be drawn, which is after what can be read is there. */
const ready = new Promise((resolve, reject) => {
  requestAnimationFrame(() => setTimeout(() => loadPlotly().then(resolve, reject)));
});

/** Draw again what depends on the filters. */
function followFilters() {
  if (typeof Plotly === "undefined") return;
  fillGroups();
  drawTradeOff();
  drawRoc();
}

async function setUpFigures() {
  await ready;
  followTheme();
  for (const setUp of [setUpTradeOff, setUpRoc, setUpHeat]) {
    setUp();
    await new Promise((resolve) => setTimeout(resolve)); // what is typed meanwhile is answered
  }
  document.documentElement.dataset.drawn = "true";
}

if (view.cells.length) {
  fillCurves();
  setUpTable(followFilters);
  setUpCells();
  setUpFigures().catch((error) => {
    for (const place of document.querySelectorAll(".wait")) place.textContent = `The figures cannot be drawn: ${error.message}`;
    console.error(error);
  });
}
