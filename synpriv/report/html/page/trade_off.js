const MOST_LABELS = 16; // names beside points; hovering names all

/** Cells of the group that is chosen which the filters show. */
function groupCells() {
  const chosen = chosenCells();
  const group = byId("trade-off-group").value;
  return view.cells.filter((cell) => cell.comparable === group && chosen.has(cell.id));
}

/** Where the cells of a group lie in a panel; `floor`: where a TPR of 0 stands. */
function placed(group, panel) {
  const rate = panel !== "auc";
  const floor = rate ? Math.min(...group.map((cell) => 0.5 / cell.n_in)) : -Infinity;
  const points = group.flatMap((cell) =>
    cell.points
      .filter((point) => point.panel === panel)
      .map((point) => ({
        cell,
        read: point,
        x: point.x,
        half: point.x_half,
        y: Math.max(point.y, floor),
        low: Math.max(point.y_low, floor),
        high: Math.max(point.y_high, floor),
      })),
  );
  return { points, floor, rate };
}

/** What a hollow marker says: a rate at 10% stands in no corrected family. */
function hollow(panel) {
  if (panel === "tpr@fpr=0.1") return "hollow: p > 2.5%, each marker by itself";
  return "hollow: no more than chance gives";
}

/** What hovering says: the cell and its numbers. */
function pointWords({ cell, read }, panel) {
  const shown = panel === "auc" ? (value) => value.toFixed(3) : percent;
  const number = panel === "auc" ? cell.auc : cell.rates[panel];
  const lines = [
    `<b>${label(cell.name, 80)}</b>`,
    label(cell.verdict.words, 80),
    `${panelName(panel)}: ${shown(read.y)} [${shown(read.y_low)}, ${shown(read.y_high)}]`,
    label(number ? number.reference : "", 80),
    `accuracy: ${read.x.toFixed(3)} \u00b1 ${read.x_half.toFixed(3)}; ${label(cell.accuracy.reference, 60)}`,
    `cost per model: ${duration(cell.train_s)}; epsilon proven: ${label(cell.epsilon_proven, 60)}`,
    read.above_chance ? "" : hollow(panel),
    read.y === 0 ? "a TPR of 0 stands at the bottom" : "",
  ];
  return lines.filter(Boolean).join("<br>");
}

/** Diameter of a marker, its area grows with the seconds. */
function diameter(seconds, slowest) {
  return seconds === null || !(slowest > 0) ? 10 : Math.sqrt(90 + 400 * (seconds / slowest));
}

/** One trace per paradigm, so that the legend has a line of each. */
function paradigmTraces(points, panel, positions) {
  const slowest = Math.max(0, ...points.map((point) => point.cell.train_s ?? 0));
  const named = points.length <= MOST_LABELS;
  const called = distinctLabels(
    points.map((point) => point.cell),
    22,
  );
  return [...new Set(points.map((point) => point.cell.paradigm))].map((paradigm) => {
    const own = points.filter((point) => point.cell.paradigm === paradigm);
    const tint = paradigmColour(paradigm);
    const bars = { color: tint, thickness: 1, width: 3 };
    const symbol = paradigmSymbol(paradigm);
    return {
      name: label(paradigm, 24),
      type: "scatter",
      mode: named ? "markers+text" : "markers",
      x: own.map((point) => point.x),
      y: own.map((point) => point.y),
      cliponaxis: false,
      customdata: own.map((point) => point.cell.id),
      text: own.map((point) => called.get(point.cell.id)),
      textposition: own.map((point) => positions.get(point)),
      textfont: { color: tint, size: 12 },
      hoverinfo: "text",
      hovertext: own.map((point) => pointWords(point, panel)),
      error_x: { type: "data", array: own.map((point) => point.half), ...bars },
      error_y: {
        type: "data",
        symmetric: false,
        ...bars,
        array: own.map((point) => point.high - point.y),
        arrayminus: own.map((point) => point.y - point.low),
      },
      marker: {
        color: tint,
        size: own.map((point) => diameter(point.cell.train_s, slowest)),
        symbol: own.map((point) => (point.read.above_chance ? symbol : `${symbol}-open`)),
        line: { width: 1.6, color: tint },
        opacity: 1,
      },
    };
  });
}

/** A side of each point for its name where it covers fewest others; ranges in axis units. */
function labelSides(points, across, up, box) {
  const sides = {
    "top right": [1, -1],
    "bottom right": [1, 1],
    "top left": [-1, -1],
    "bottom left": [-1, 1],
    "top center": [0, -1],
    "bottom center": [0, 1],
  };
  const at = (value, range, length) => ((value - range[0]) / (range[1] - range[0])) * length;
  const taken = points.map((point) => {
    const x = at(point.x, across, box.width);
    const y = box.height - at(up.log ? Math.log10(point.y) : point.y, up.range, box.height);
    return { x0: x - 9, x1: x + 9, y0: y - 9, y1: y + 9, x, y };
  });
  const chosen = new Map();
  points.forEach((point, i) => {
    const width = 6.6 * Math.min([...point.cell.short].length, 22);
    const boxes = Object.entries(sides).map(([side, [dx, dy]]) => {
      const x0 = taken[i].x + 11 * dx + (width * (dx - 1)) / 2;
      const y0 = taken[i].y + (dx === 0 ? 18 : 14) * dy - 7;
      const place = { side, x0, x1: x0 + width, y0, y1: y0 + 14 };
      const over = taken.filter(
        (o) => o.x0 < place.x1 && o.x1 > x0 && o.y0 < place.y1 && o.y1 > y0,
      );
      const outside = x0 < 0 || place.x1 > box.width || y0 < 0 || place.y1 > box.height;
      return { place, bad: over.length + 4 * outside };
    });
    const best = boxes.reduce((a, b) => (b.bad < a.bad ? b : a)).place;
    taken.push(best);
    chosen.set(point, best.side);
  });
  return chosen;
}

/** What the figure cannot draw, in words. */
function tradeOffWords(group, points) {
  const lines = [
    "Bars: 95% intervals. Area of a marker: cost per model; " +
      `${hollow(points[0]?.read.panel)}. ` +
      "Step line: DP-SGD's frontier; shaded: as accurate or less and as leaky or more than a point of it.",
  ];
  const zero = points.filter((point) => point.read.y === 0).map((point) => point.cell.short);
  if (zero.length)
    lines.push(
      `A TPR of 0 has no place on a log axis and stands at the bottom: ${zero.join(", ")}.`,
    );
  const drawn = new Set(points.map((point) => point.cell.id));
  const left = group.filter((cell) => !drawn.has(cell.id)).map((cell) => cell.short);
  if (left.length)
    lines.push(`Not drawn, since its accuracy or this rate is not known: ${left.join(", ")}.`);
  return lines.join(" ");
}

function drawTradeOff() {
  const element = byId("trade-off-plot");
  const panel = byId("trade-off-panel").value;
  const group = groupCells();
  const { points, floor, rate } = placed(group, panel);
  byId("trade-off-words").textContent = plain(tradeOffWords(group, points));
  if (!points.length) {
    draw(element, [], {
      annotations: [{ text: "no audit to draw", showarrow: false }],
      xaxis: { visible: false },
      yaxis: { visible: false },
    });
    return;
  }
  const ends = points.flatMap((point) => [point.x - point.half, point.x + point.half]);
  const pad = 0.06 * (Math.max(...ends) - Math.min(...ends)) || 0.05;
  const across = [Math.min(...ends) - pad, Math.max(...ends) + 2 * pad];
  const heights = points.flatMap((point) => [point.low, point.high]);
  const span = [Math.min(0.5, ...heights) - 0.02, Math.max(...heights) + 0.02];
  const lowest = Math.max(floor, 0.6 * Math.min(...heights));
  const up = rate
    ? { log: true, range: [Math.log10(lowest), Math.log10(1.3)] }
    : { log: false, range: span };
  const box = {
    width: Math.max(element.clientWidth - 70, 200),
    height: Math.max(element.clientHeight - 90, 200),
  };
  const private_ = points.filter((point) => point.cell.paradigm === "dpsgd");
  const name = label(panelName(panel));
  draw(
    element,
    [
      ...frontierTraces(private_, across[0], rate ? 1.3 : span[1]),
      ...paradigmTraces(points, panel, labelSides(points, across, up, box)),
    ],
    {
      xaxis: axis("accuracy (right is better)", { range: across }),
      yaxis: rate
        ? logAxis(`${name} (lower is better)`, lowest, 1.3)
        : axis(`${name} (lower is better)`, { range: span }),
      showlegend: points.length > MOST_LABELS || element.clientWidth >= 520,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, itemsizing: "constant" },
      margin: { l: 56, r: 14, t: 40, b: 44 },
    },
  );
}

/** What the cells of a group have in common, in words. */
function groupName(cell) {
  const size = `${cell.num_canaries} canaries in ${cell.num_models} ${cell.membership} models`;
  return `${cell.dataset}, ${cell.canary}, ${cell.attack}, ${size}`;
}

/** A choice that stays what it was if it is still there. */
function refill(select, entries) {
  const before = select.value;
  fill(select, entries);
  if (entries.some(([value]) => value === before)) select.value = before;
}

/** Groups of the cells that the filters show, the largest first, told apart by their words. */
function fillGroups() {
  const groups = new Map();
  const chosen = chosenCells();
  for (const cell of view.cells.filter((one) => chosen.has(one.id)))
    groups.set(cell.comparable, [...(groups.get(cell.comparable) ?? []), cell]);
  const used = new Map();
  const named = [...groups]
    .sort((a, b) => b[1].length - a[1].length)
    .map(([key, group]) => {
      const words = groupName(group[0]);
      used.set(words, (used.get(words) ?? 0) + 1);
      const nth = used.get(words) > 1 ? ` (${used.get(words)})` : "";
      return [key, `${words}${nth}: ${group.length} audit${group.length > 1 ? "s" : ""}`];
    });
  refill(byId("trade-off-group"), named);
  fillPanels();
}

function fillPanels() {
  const panels = groupCells().flatMap((cell) => cell.points.map((point) => point.panel));
  refill(
    byId("trade-off-panel"),
    panels.map((key) => [key, panelName(key)]),
  );
}

function setUpTradeOff() {
  fillGroups();
  figure(byId("trade-off-plot"), drawTradeOff);
  byId("trade-off-group").addEventListener("change", () => {
    fillPanels();
    drawTradeOff();
  });
  byId("trade-off-panel").addEventListener("change", drawTradeOff);
  byId("trade-off-plot").on("plotly_click", ({ points }) => {
    if (points[0].customdata !== undefined) openCell(points[0].customdata);
  });
}
