// Quality against a cost over all runs: the Pareto front, the filters, and what to take under a limit.

const facets = document.getElementById("facets");
const chosenOf = (name) => facets?.querySelector(`[data-facet="${name}"]`)?.value ?? "";
const FACETS = ["method", "dataset", "seed"];
const passes = (of) => FACETS.every((name) => !chosenOf(name) || of[name] === chosenOf(name));
const UNITS = {
  ms_per_text: ["latency, ms a text", (v) => `${trim(v)} ms`, "a text"],
  bytes: ["size on disk", bytes, "on disk"],
  train_seconds: ["training time", (v) => duration(v), "of training"],
  trained_parameters: ["trained parameters", short, "trained parameters"],
};

function duration(seconds) {
  if (seconds < 60) return `${trim(seconds)} s`;
  return seconds < 3600 ? `${trim(seconds / 60)} min` : `${trim(seconds / 3600)} h`;
}

/** The points that no other beats, the cheapest first. */
function frontOf(points, cost) {
  const front = [];
  for (const point of [...points].sort((a, b) => a[cost] - b[cost] || b.quality - a.quality))
    if (!front.length || point.quality > front.at(-1).quality) front.push(point);
  return front;
}

function shownPoints() {
  const cost = document.getElementById("cost")?.value;
  return [cost, DATA.overview.points.filter((p) => passes(p) && p.quality != null && p[cost] > 0)];
}

function drawPareto(host) {
  const [cost, points] = shownPoints();
  if (!points.length) return empty(host, "– No run with these settings has this cost recorded.");
  const [label, format] = UNITS[cost], costs = points.map((p) => p[cost]);
  const front = frontOf(points, cost);
  const wide = Math.max(Math.max(...costs) / Math.min(...costs), 4) ** 0.08 * 1.1;
  const x = { range: [Math.min(...costs) / wide, Math.max(...costs) * wide], log: true, label, format };
  const y = { range: padded(points.map((p) => p.quality)), label: DATA.overview.metrics.join(" or ") };
  const { root, px, py, box } = frame(host, { x, y, height: 400, left: 58, label: `${y.label} against ${label}` });
  root.append(svg("path", { class: "front", d: staircase(front, cost, px, py, box) }));
  const limit = svg("line", { id: "limit-line", class: "guide", y1: box.top, y2: box.bottom, visibility: "hidden" });
  root.append(limit);
  const taken = points.map((p) => ({ level: py(p.quality) + 4, from: px(p[cost]) - 6, to: px(p[cost]) + 6 }));
  const kinds = [...new Set(DATA.overview.points.map((p) => p.method))], told = kinds.length <= 5;
  // The front is drawn last, over the others, and alone has names: those of fifty runs would cover one another.
  const few = points.length <= 8;
  for (const point of [...points.filter((p) => !front.includes(p)), ...front]) {
    const at = [px(point[cost]), py(point.quality)], on = front.includes(point);
    const said = Object.entries(point.said).map(([name, value]) => `${name}: ${value}`);
    const where = [point.method, point.dataset, point.seed && `seed ${point.seed}`].filter(Boolean).join(", ");
    const node = svg("g", { class: on ? null : "behind" }, svg("circle", { class: "halo", cx: at[0], cy: at[1], r: 11 }), mark(told ? kinds.indexOf(point.method) : styleOf(point.role), ...at));
    root.append(tells(node, [point.label, where, on ? "on the front" : null, ...said].filter(Boolean).join("\n")));
    if (on) nameOnFront(root, point.label, at, box, taken);
    else if (few) root.append(placeName(point.label, at, box, taken));
  }
  if (told && kinds.length > 1) legend(host, kinds.map((name, index) => ({ name, index })));
  host.limit = { line: limit, px };
  showChoice();
}

/** Put a name above and left of the front, where nothing lies; where another name is in the way, hovering tells it. */
function nameOnFront(root, name, [x, y], box, taken) {
  const width = name.length * 6.6, inside = x - 8 - width > box.left;
  const from = inside ? x - 8 - width : x + 2, level = Math.max(y - 9, box.top);
  if (taken.some((t) => Math.abs(t.level - level) < 12 && t.from < from + width && from < t.to)) return;
  taken.push({ level, from, to: from + width });
  root.append(svg("text", { class: "name", x: inside ? x - 8 : x + 2, y: level, "text-anchor": inside ? "end" : "start" }, name));
}

function staircase(front, cost, px, py, box) {
  let d = `M${px(front[0][cost])} ${box.bottom}`;
  for (const point of front) d += `H${px(point[cost])}V${py(point.quality)}`;
  return `${d}H${box.right}`;
}

/** Say which run is the best under the slider's limit. */
function showChoice() {
  const slider = document.getElementById("limit");
  if (!slider) return;
  const [cost, points] = shownPoints(), host = document.querySelector('[data-chart="pareto"]');
  const words = document.getElementById("choice");
  if (!points.length) return words.replaceChildren("–");
  const costs = points.map((p) => p[cost]), low = Math.min(...costs), high = Math.max(...costs);
  const share = slider.value / 1000, limit = low * (high / low) ** share * 1.0001, [, format, of] = UNITS[cost];
  document.getElementById("limit-value").textContent = format(limit);
  document.getElementById("limit-of").textContent = of;
  slider.setAttribute("aria-valuetext", `${format(limit)} ${of}`);
  const within = points.filter((p) => p[cost] <= limit), best = frontOf(within, cost).at(-1);
  const lost = Math.max(...points.map((p) => p.quality)) - best.quality;
  words.replaceChildren(
    html("a", { href: `#${best.key}` }, best.label), ` – ${three(best.quality)}, ${format(best[cost])} ${of}; `,
    lost > 0 ? `${three(lost)} below the best of all. ` : "the best of all. ",
    `${within.length} of ${points.length} are within the limit.`);
  const { line, px } = host.limit ?? {};
  if (line) fill(line, { x1: px(limit), x2: px(limit), visibility: "visible" }, []);
}

function filterRuns() {
  for (const row of document.querySelectorAll("#overview tr[data-method]")) row.hidden = !passes(row.dataset);
  const all = DATA.overview.points, shown = all.filter(passes).length;
  document.getElementById("facet-count").textContent = shown < all.length ? `${shown} of ${all.length} shown` : "";
  drawPareto(document.querySelector('[data-chart="pareto"]'));
}

if (facets) facets.addEventListener("change", filterRuns);
document.getElementById("limit")?.addEventListener("input", showChoice);
