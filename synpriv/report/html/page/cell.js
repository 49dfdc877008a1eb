/** A number, its interval and what it stands beside. */
function besideText(number, why) {
  if (number === null || number === undefined) return absent(why);
  return make(
    "span",
    {},
    make("span", { text: number.in_words }),
    make("span", { class: "beside", text: number.reference }),
  );
}

function numbersPart(cell) {
  const rates = Object.entries(cell.rates).map(([key, rate]) => [panelName(key), besideText(rate)]);
  return pairs([
    ["Threat model", cell.threat_model],
    ["Accuracy", besideText(cell.accuracy)],
    [
      "Random subset",
      cell.random_subset ?? absent("no random subset of as many images to compare with"),
    ],
    ...rates,
    ["AUC", besideText(cell.auc)],
    ["Epsilon proven", cell.epsilon_proven],
    ["Epsilon bound", besideText(cell.epsilon_bound)],
    ["Nearness", besideText(cell.nearness, "no released images to compare")],
    ["Image quality", cell.quality ?? absent("no released images that were judged")],
    [
      "Evidence",
      `${cell.n_in} scores IN, ${cell.n_out} OUT: ${cell.num_canaries} canaries, ${cell.num_models} models (${cell.membership})`,
    ],
    ["Cell", cell.cell],
  ]);
}

function costsPart(cell) {
  if (!cell.stages.length) return absent("costs of its stages were not recorded");
  const rows = cell.stages.map((cost) => [
    cost.stage,
    duration(cost.wall_s),
    duration(cost.cpu_s),
    cost.flops === null ? "-" : cost.flops.toExponential(2),
    `${short(cost.peak_mb)} MB`,
    cost.rise_mb === null ? "-" : `${short(cost.rise_mb)} MB`,
  ]);
  const heads = ["Stage", "Wall", "CPU", "FLOPs", "Peak memory", "Rise"];
  return table("Mean over shadow models", heads, rows);
}

/** Settings with a search of their own. */
function settingsPart(cell) {
  const entries = Object.entries(cell.settings).map(([key, value]) => [key, settingText(value)]);
  const found = make("div", {
    class: "settings",
    tabindex: "0",
    role: "region",
    "aria-label": "Settings",
  });
  const search = make("input", { type: "search", placeholder: "method.lr", autocomplete: "off" });
  const follow = () => {
    const word = search.value.toLowerCase();
    const kept = entries.filter(([key, value]) => `${key}=${value}`.toLowerCase().includes(word));
    found.replaceChildren(
      kept.length
        ? pairs(kept)
        : absent(entries.length ? "no setting has this in it" : "none recorded"),
    );
  };
  search.addEventListener("input", follow);
  follow();
  return make(
    "div",
    {},
    make("p", { class: "controls" }, make("label", { text: "Search settings " }, search)),
    found,
  );
}

/** Everything of one audit, made when it is first opened. */
function fillCell(cell, body) {
  const part = (title, ...inside) =>
    make("section", { class: "part" }, make("h4", { text: title }), ...inside);
  const warnings = cell.warnings.length ? list(cell.warnings) : make("p", { text: "None." });
  body.append(
    make("p", { class: "sentence", text: cell.verdict.sentence }),
    part("Scores and threshold", thresholdPart(cell)),
    part("Most exposed canaries", canariesPart(cell)),
    part("Numbers", numbersPart(cell)),
    make(
      "div",
      { class: "stack" },
      part("Warnings", warnings),
      part("About", list(cell.about)),
      part("Provenance", list(cell.provenance)),
      part("Costs", costsPart(cell)),
    ),
    part("Settings", settingsPart(cell)),
  );
}

/** Open the page of one audit and go there. */
function openCell(id) {
  const place = byId(`cell-${id}`);
  if (place === null || place.tagName !== "DETAILS") return;
  place.hidden = false;
  place.open = true;
  place.scrollIntoView({ block: "start" });
  place.querySelector("summary").focus({ preventScroll: true });
}

function setUpCells() {
  for (const place of document.querySelectorAll("details.cell")) {
    const fillOnce = () => {
      const body = place.querySelector(".body");
      if (place.open && !body.hasChildNodes()) fillCell(cells.get(place.dataset.cell), body);
    };
    place.addEventListener("toggle", () => {
      fillOnce();
      if (!place.open) return;
      for (const plot of place.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
    });
    fillOnce();
  }
  const follow = () => {
    if (location.hash.startsWith("#cell-")) openCell(location.hash.slice("#cell-".length));
  };
  addEventListener("hashchange", follow);
  addEventListener("click", (event) => {
    // the address does not change when a link is used twice
    if (event.target.closest?.("a[href^='#cell-']")?.hash === location.hash) follow();
  });
  follow();
}
