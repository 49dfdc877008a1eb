/** Histograms of members and non-members, and where the attacker's threshold lies. */
function drawScores(element, cell, threshold) {
  const { edges, members, non_members: others } = cell.scores;
  const middle = members.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const bars = (name, counts, tint, pattern) => ({
    type: "bar",
    name,
    x: middle,
    y: counts,
    width: members.map((_, i) => edges[i + 1] - edges[i]),
    marker: {
      color: colour(tint),
      opacity: 0.6,
      pattern: { shape: pattern, size: 5, solidity: 0.35 },
    },
    hovertemplate: `%{y} ${name}<br>scores around %{x:.3g}<extra></extra>`,
  });
  draw(element, [bars("OUT", others, "out", ""), bars("IN", members, "in", "/")], {
    barmode: "overlay",
    bargap: 0,
    shapes: [thresholdShape(threshold)],
    xaxis: axis("score of the attack"),
    yaxis: axis("canaries x models", { type: "log", dtick: 1, exponentformat: "none" }),
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    margin: { l: 56, r: 12, t: 34, b: 44 },
  });
}

function thresholdShape(x) {
  return {
    type: "line",
    x0: x,
    x1: x,
    yref: "paper",
    y0: 0,
    y1: 1,
    line: { color: colour("text"), width: 2 },
  };
}

/** The share of members among the accused, or why there is no such number. */
function ppvWords(cell, now, prior) {
  if (Number.isNaN(prior)) return "-: the prior must be a number between 0 and 1";
  if (now.tp + now.fp === 0) return "-: nobody is accused";
  const right = ppv(now.tpr, now.fpr, prior);
  if (Number.isNaN(right)) return "-: at this prior nobody who is asked about is accused";
  const beside = `beside a prior of ${percent(prior)}`;
  if (Math.min(now.tp, now.fp) >= RESOLVED) return `${percent(right)}, ${beside}`;
  const [inside, outside] = [limits(now.tp, cell.n_in), limits(now.fp, cell.n_out)];
  const [low, high] = [ppv(inside[0], outside[1], prior), ppv(inside[1], outside[0], prior)];
  const few = `${now.tp} true and ${now.fp} false positives`;
  return `${percent(low)} to ${percent(high)}, ${beside}: ${few} are too few to say more`;
}

/** The numbers of one threshold at a prior, by name. */
function thresholdRows(cell, i, prior) {
  const now = accusation(cell, i);
  return [
    ["threshold", short(now.threshold, 4)],
    ["true positives", `${now.tp} of ${cell.n_in} members`],
    ["false positives", `${now.fp} of ${cell.n_out} non-members`],
    ["TPR", percent(now.tpr)],
    ["realised FPR", percent(now.fpr) + (now.fp < RESOLVED ? ", of too few to say more" : "")],
    ["PPV", ppvWords(cell, now, prior)],
  ];
}

/** Slider, prior and what they give. */
function thresholdPart(cell) {
  const last = cell.scores.thresholds.length - 1;
  if (last < 0)
    return make("p", { text: "- : no score was kept, so there is no threshold to choose." });
  const plot = make("div", {
    class: "plot",
    role: "img",
    "aria-label": "Histograms of the scores of members and non-members",
  });
  const slider = make("input", { type: "range", min: "0", max: String(last), step: "1" });
  const prior = make("input", { type: "number", min: "0", max: "1", step: "any", value: "0.1", required: "" });
  const output = make("output", { class: "numbers", "aria-live": "polite" });
  slider.value = String(thresholdAt(cell, 0.01));
  const at = () => Number(slider.value);
  const follow = () => {
    const share = prior.checkValidity() ? Number(prior.value) : NaN;
    prior.setAttribute("aria-invalid", String(Number.isNaN(share)));
    output.replaceChildren(pairs(thresholdRows(cell, at(), share)));
    slider.setAttribute(
      "aria-valuetext",
      `threshold ${short(accusation(cell, at()).threshold, 4)}`,
    );
  };
  const move = () => {
    follow();
    if (plot.data)
      Plotly.relayout(plot, { shapes: [thresholdShape(accusation(cell, at()).threshold)] });
  };
  slider.addEventListener("input", move);
  prior.addEventListener("input", follow);
  follow();
  const drawIt = () => drawScores(plot, cell, accusation(cell, at()).threshold);
  ready.then(() => figure(plot, drawIt));
  return make(
    "div",
    { class: "threshold" },
    plot,
    make(
      "div",
      { class: "controls" },
      make("label", { text: "Threshold, from strict to lax " }, slider),
      make("label", { text: "Prior: share of members among those asked about " }, prior),
    ),
    output,
  );
}
