/** The largest effect that still changes the colour: one canary must not make all others pale. */
function brightest(values) {
  const known = values
    .flat()
    .filter((value) => value !== null)
    .sort((a, b) => a - b);
  return Math.max(1, known[Math.floor(0.95 * (known.length - 1))] ?? 1);
}

/** What one place says, with what it stands beside. */
function effectWords(value, chance) {
  if (value === null) return "too few models on a side";
  const more = byChance(value, chance) ? `, ${NO_MORE}` : "";
  return `${short(value)} sd${more}<br>largest by chance: ${upTo(chance)}`;
}

/** Up to what the largest effects of all rows go by chance. */
function chanceWords(heat) {
  const known = heat.chance.filter((chance) => chance !== null);
  if (!known.length) return "What the largest reads by chance is not known.";
  const [low, high] = [Math.min(...known), Math.max(...known)].map((one) => short(one));
  const ends = low === high ? high : `${low} to ${high}`;
  return `The largest of a row goes up to ${ends} sd by chance alone: rows that stay below show no leak of any one canary.`;
}

/** Whether rows are numbered and named underneath. */
const narrowPage = () => matchMedia(NARROW).matches;

/** The rows of a heat map that the filters show. */
function chosenRows(heat) {
  const chosen = chosenCells();
  const named = new Map(
    view.cells.filter((cell) => chosen.has(cell.id)).map((cell) => [cell.name, cell]),
  );
  const places = heat.rows.map((_, i) => i).filter((i) => named.has(heat.rows[i]));
  const rows = places.map((i) => heat.rows[i]);
  const shown = rows.map((name) => named.get(name));
  const labels = distinctLabels(shown, 44);
  return {
    ...heat,
    rows,
    values: places.map((i) => heat.values[i]),
    chance: places.map((i) => heat.chance[i]),
    labels: shown.map((cell) => labels.get(cell.id)),
  };
}

/** Draw what the filters show; without any row a line says so. */
function followHeat(place, whole) {
  const [plot, rows, nothing] = ["plot", "rows", "none"].map((name) =>
    place.querySelector(`.${name}`),
  );
  const heat = chosenRows(whole);
  nothing.hidden = heat.rows.length > 0;
  plot.hidden = !heat.rows.length;
  rows.replaceChildren(...heat.rows.map((name) => make("li", { text: name })));
  rows.hidden = plot.hidden || !narrowPage();
  if (plot.hidden) return;
  plot.style.height = `${150 + 26 * heat.rows.length}px`;
  drawHeat(plot, heat);
}

function drawHeat(element, heat) {
  const narrow = narrowPage();
  const every = Math.ceil(
    (14 * heat.columns.length) / Math.max(element.clientWidth - (narrow ? 120 : 400), 100),
  );
  const ticks = heat.columns.map((_, i) => i).filter((i) => i % every === 0);
  const top = brightest(heat.values);
  const words = heat.values.map((row, r) =>
    row.map(
      (value, c) =>
        `${label(heat.rows[r], 80)}<br>canary ${heat.columns[c]}: ${effectWords(value, heat.chance[r])}`,
    ),
  );
  draw(
    element,
    [
      {
        type: "heatmap",
        z: heat.values,
        hovertext: words,
        hoverinfo: "text",
        colorscale: "Cividis",
        zmin: 0,
        zmax: top,
        xgap: 1,
        ygap: 1,
        hoverongaps: true,
        colorbar: { title: { text: narrow ? "sd" : "effect, sd" }, thickness: 10, outlinewidth: 0 },
      },
    ],
    {
      xaxis: axis(narrow ? "canary" : "canary, the most exposed first", {
        tickvals: ticks,
        ticktext: ticks.map((i) => String(heat.columns[i])),
        showgrid: false,
        ticks: "",
        tickfont: { size: 10 },
        tickangle: -90,
      }),
      yaxis: axis("", {
        tickvals: heat.rows.map((_, i) => i),
        autorange: "reversed",
        showgrid: false,
        ticks: "",
        ticktext: heat.labels.map((name, i) => (narrow ? String(i + 1) : name)),
      }),
    },
  );
}

function setUpHeat() {
  const box = byId("heat-plots");
  if (!view.heat.length) {
    box.append(make("p", { text: "No two audits have canaries in common." }));
  }
  for (const heat of view.heat) {
    const plot = make("div", { class: "plot", role: "img", "aria-label": plain(heat.title) });
    const above = `${chanceWords(heat)} Colours end at ${short(brightest(heat.values))} sd; hovering tells the number.`;
    const place = make(
      "div",
      {},
      make("h3", { text: heat.title }),
      make("p", { class: "none", text: "Nothing fits the filters." }),
      plot,
      make("ol", { class: "rows note" }),
      make("p", { class: "note", text: above }),
    );
    box.append(place);
    figure(plot, () => followHeat(place, heat));
  }
}
