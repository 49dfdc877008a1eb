let ready; // a promise: figures can be drawn, which is after what can be read is there

/** Resolves when the page has been painted. */
function painted() {
  return new Promise((resolve) => {
    requestAnimationFrame(() => setTimeout(resolve));
  });
}

/** Draw again what depends on the filters. */
function followFilters() {
  if (typeof Plotly === "undefined") return;
  fillGroups();
  drawAll();
}

async function drawFigures() {
  await ready;
  followMedia();
  for (const setUp of [setUpTradeOff, setUpRoc, setUpHeat]) {
    setUp();
    await new Promise((resolve) => {
      setTimeout(resolve);
    }); // what is typed meanwhile is answered
  }
  document.documentElement.dataset.drawn = "true";
}

async function start() {
  await painted();
  await loadView();
  if (!view.cells.length) return;
  ready = loadPlotly();
  fillCurves();
  setUpTable(followFilters);
  setUpCells();
  await drawFigures();
}

start().catch((error) => {
  for (const place of document.querySelectorAll(".wait"))
    place.textContent = `The figures cannot be drawn: ${error.message}`;
  console.error(error);
});
