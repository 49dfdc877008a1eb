/**
 * The points that no other beats: of growing accuracy, each less leaky than all more accurate ones.
 * @param {{x: number, y: number}[]} points x the accuracy, y what leaks
 */
function frontier(points) {
  const kept = [];
  let least = Infinity;
  for (const point of [...points].sort((a, b) => b.x - a.x || a.y - b.y)) {
    if (point.y < least) kept.unshift(point);
    least = Math.min(least, point.y);
  }
  return kept;
}

/** Corners of the step line: up to which accuracy which leak is enough. */
function steps(kept, left) {
  const corners = [[left, kept[0].y]];
  kept.forEach((point, i) => {
    corners.push([point.x, point.y]);
    if (i + 1 < kept.length) corners.push([point.x, kept[i + 1].y]);
  });
  return corners;
}

/** Traces of DP-SGD's frontier: what it dominates, shaded, and the line. */
function frontierTraces(points, left, top) {
  if (!points.length) return [];
  const corners = steps(frontier(points), left);
  const last = corners[corners.length - 1][0];
  const around = [...corners, [last, top], [left, top]];
  const quiet = { hoverinfo: "skip", mode: "lines" };
  const blue = paradigmColour("dpsgd");
  return [
    {
      ...quiet,
      x: around.map((c) => c[0]),
      y: around.map((c) => c[1]),
      fill: "toself",
      line: { width: 0 },
      fillcolor: colour("shade"),
      name: "dominated by DP-SGD",
    },
    {
      ...quiet,
      x: corners.map((c) => c[0]),
      y: corners.map((c) => c[1]),
      line: { color: blue, width: 2 },
      name: "DP-SGD's frontier",
    },
  ];
}
