// The report's figures. Each takes its box and the numbers, and may be called again when the box changes its width.

/** Scatter of quality against a cost, on a logarithmic cost axis. */
function drawTradeOff(host, points, key, metric) {
  const known = points.filter((p) => p.quality != null && p[key] > 0);
  if (!known.length) return empty(host, `– No ${key === "bytes" ? "sizes" : "speeds"} were recorded.`);
  const costs = known.map((p) => p[key]);
  const wide = Math.max(Math.max(...costs) / Math.min(...costs), 4) ** 0.12;
  const x = { range: [Math.min(...costs) / wide / 1.15, Math.max(...costs) * wide * 1.15], log: true };
  Object.assign(x, key === "bytes" ? { label: "size on disk", format: bytes } : { label: "texts a second", format: short });
  const y = { range: padded(known.map((p) => p.quality)), label: metric };
  const { root, px, py, box } = frame(host, { x, y, label: `${metric} against ${x.label}`, left: 58 });
  const taken = known.map((p) => ({ level: py(p.quality) + 4, from: px(p[key]) - 9, to: px(p[key]) + 9 }));
  for (const point of [...known].sort((a, b) => b.quality - a.quality)) {
    const at = [px(point[key]), py(point.quality)], index = styleOf(point.role);
    const said = Object.entries(point.said).map(([name, value]) => `${name}: ${value}`);
    const name = point.label ?? point.role;
    const node = svg("g", {}, svg("circle", { class: "halo", cx: at[0], cy: at[1], r: 11 }), mark(index, ...at));
    root.append(tells(node, [name, point.name && point.name !== name ? point.name : null, ...said].filter(Boolean).join("\n")));
    root.append(placeName(name, at, box, taken));
  }
}

/** Put a name beside its mark: right or left of it, and below what is already there. */
function placeName(name, [x, y], box, taken) {
  const shown = name.length > 26 ? name.slice(0, 25) + "…" : name;
  const width = shown.length * 6.6;
  const toLeft = x + 14 + width > box.right + 10 && x - 14 - width > box.left - 20;
  const from = toLeft ? x - 12 - width : x + 12;
  let level = y + 4;
  while (taken.some((t) => Math.abs(t.level - level) < 14 && t.from < from + width && from < t.to)) level += 14;
  taken.push({ level, from, to: from + width });
  return svg("text", { class: "name", x: toLeft ? x - 12 : x + 12, y: level, "text-anchor": toLeft ? "end" : "start" }, shown);
}

/** Lines over steps, with a rule that follows the pointer or the arrow keys. */
function drawLines(host, series, label, fromZero) {
  if (!series.length) return empty(host, "– Nothing was logged.");
  const all = series.flatMap((s) => s.points), steps = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
  const values = all.map((p) => p[1]);
  const high = Math.max(...values);
  const range = fromZero && Math.min(...values) >= 0 ? [0, high * 1.05 || 1] : padded(values);
  const lone = steps.length < 2;
  const x = { range: lone ? [steps[0] - 1, steps[0] + 1] : [steps[0], steps.at(-1)], label: "step", format: short, ticks: lone ? steps : null };
  const { root, px, py, box } = frame(host, { height: 250, x, y: { range }, label });
  series.forEach((s, index) => {
    const d = s.points.map(([step, v], i) => `${i ? "L" : "M"}${px(step).toFixed(1)} ${py(v).toFixed(1)}`).join("");
    root.append(svg("path", { d, fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": DASHES[index % 5], "stroke-linejoin": "round" }));
    if (s.points.length <= 25) for (const [step, v] of s.points) root.append(mark(index, px(step), py(v), 4));
  });
  followSteps(root, series, steps, px, box, label);
  legend(host, series.map((s, index) => ({ name: s.name, index, line: true })));
}

function followSteps(root, series, steps, px, box, label) {
  const rule = svg("line", { class: "rule", y1: box.top, y2: box.bottom, visibility: "hidden" });
  root.append(rule);
  fill(root, { tabindex: 0, role: "img", "aria-label": `${label}; use the left and right arrow keys to read it` }, []);
  let at = steps.length - 1;
  const show = () => {
    const x = px(steps[at]);
    fill(rule, { x1: x, x2: x, visibility: "visible" }, []);
    const said = series.map((s) => [s.name, s.points.find((p) => p[0] === steps[at])]).filter(([, p]) => p);
    const area = root.getBoundingClientRect();
    showTip([`step ${steps[at].toLocaleString("en")}`, ...said.map(([name, p]) => `${name}: ${three(p[1])}`)].join("\n"), area.left + x, area.top + box.top + 40);
  };
  const hide = () => { rule.setAttribute("visibility", "hidden"); hideTip(); };
  root.addEventListener("pointermove", (event) => {
    const x = event.clientX - root.getBoundingClientRect().left;
    at = steps.reduce((best, step, i) => (Math.abs(px(step) - x) < Math.abs(px(steps[best]) - x) ? i : best), 0);
    show();
  });
  root.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    at = Math.max(0, Math.min(steps.length - 1, at + move));
    show();
  });
  root.addEventListener("focus", () => { if (root.matches(":focus-visible")) show(); });
  for (const event of ["pointerleave", "blur"]) root.addEventListener(event, hide);
}

/** Heat map of true (rows) against predicted (columns). */
function drawConfusion(host, confusion, which, normalised) {
  const { rows, totals, role } = confusion.models[which], labels = confusion.labels, n = labels.length;
  const longest = Math.min(Math.max(...labels.map((l) => l.length)), 16);
  const left = 26 + longest * 6.6, top = 26 + (n > 3 ? longest * 5.2 : 14), right = n > 3 ? longest * 4.4 : 8;
  const cell = Math.max(n > 12 ? 21 : 34, Math.min(n > 3 ? 50 : 84, (host.clientWidth - left - right) / n));
  const width = left + cell * n + right, height = top + cell * n + 8;
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `Confusion matrix of the ${role}` });
  const clip = (l) => (l.length > 16 ? l.slice(0, 15) + "…" : l);
  root.append(svg("text", { x: left, y: 12 }, "predicted →"), svg("text", { transform: `translate(12 ${top + cell * n}) rotate(-90)` }, "true →"));
  const most = Math.max(1, ...rows.flat());
  labels.forEach((l, i) => {
    const x = left + cell * (i + 0.5);
    root.append(svg("text", { class: "name", x: left - 8, y: top + cell * (i + 0.5) + 4, "text-anchor": "end" }, clip(l)));
    root.append(n > 3 ? svg("text", { class: "name", transform: `translate(${x + 2} ${top - 8}) rotate(-50)` }, clip(l))
      : svg("text", { class: "name", x, y: top - 8, "text-anchor": "middle" }, clip(l)));
  });
  rows.forEach((row, i) => row.forEach((value, j) => {
    const share = totals[i] ? value / totals[i] : 0, strength = normalised ? share : value / most;
    const at = { x: left + j * cell, y: top + i * cell, width: cell, height: cell };
    const words = normalised ? (cell < 34 && share < 0.005 ? "" : (100 * share).toFixed(0)) : short(value);
    const node = svg("g", {},
      svg("rect", { ...at, class: "cell", "fill-opacity": (strength ** 0.75).toFixed(3) }),
      svg("rect", { ...at, class: "cell-edge" }),
      svg("text", { x: at.x + cell / 2, y: at.y + cell / 2 + 4, "text-anchor": "middle", class: strength > 0.42 ? "on" : "name", "font-size": cell < 34 ? 10 : null }, value || n < 12 ? words : ""),
      svg("rect", { ...at, class: "halo", x: at.x + 1, y: at.y + 1, width: cell - 2, height: cell - 2 }));
    root.append(tells(node, `true ${labels[i]}, predicted ${labels[j]}\n${value.toLocaleString("en")} texts, ${(100 * share).toFixed(1)} % of the true class`));
  }));
  host.replaceChildren(root);
}

/** Share of a model's texts that lie in a bin; a bin of a few texts is chance and must not bend the line. */
function weight(model, bin) {
  const total = model.bins.reduce((sum, b) => sum + (b.count ?? 0), 0);
  return bin.count == null || !total ? 1 : bin.count / total;
}

/** Reliability diagram: how often answers of a given confidence are right. */
function drawCalibration(host, models) {
  const low = Math.min(...models.flatMap((m) => m.bins.map((b) => Math.min(b.confidence, b.accuracy))));
  const range = [Math.max(0, Math.floor(low * 10 - 0.5) / 10), 1];
  const { root, px, py } = frame(host, { square: true, x: { range, label: "confidence" }, y: { range, label: "share that is right" }, label: "Reliability diagram" });
  root.append(svg("line", { class: "guide", x1: px(range[0]), y1: py(range[0]), x2: px(1), y2: py(1) }));
  for (const model of models) {
    const index = styleOf(model.role);
    const d = model.bins.filter((b) => weight(model, b) >= 0.01).map((b, i) => `${i ? "L" : "M"}${px(b.confidence)} ${py(b.accuracy)}`).join("");
    root.append(svg("path", { d, fill: "none", stroke: colour(index), "stroke-width": 2, "stroke-dasharray": DASHES[index] }));
  }
  for (const model of models) for (const b of model.bins) {
    const at = [px(b.confidence), py(b.accuracy)];
    const node = svg("g", {}, svg("circle", { class: "halo", cx: at[0], cy: at[1], r: 9 }), mark(styleOf(model.role), ...at, 2.5 + 4 * Math.sqrt(weight(model, b))));
    if (weight(model, b) < 0.01) node.setAttribute("opacity", 0.5);
    const texts = b.count == null ? "" : `\n${b.count.toLocaleString("en")} texts`;
    root.append(tells(node, `${model.role}\nconfidence ${three(b.confidence)}, right ${three(b.accuracy)}${texts}`));
  }
  legend(host, models.map((m) => ({ name: m.role, index: styleOf(m.role), line: true })));
}

/** Predicted against true values, for a regression. */
function drawValues(host, pairs, role) {
  const range = padded(pairs.flat(), 0.05);
  const { root, px, py } = frame(host, { square: true, x: { range, label: "true" }, y: { range, label: "predicted" }, label: `Predicted against true values of the ${role}` });
  root.append(svg("line", { class: "guide", x1: px(range[0]), y1: py(range[0]), x2: px(range[1]), y2: py(range[1]) }));
  const r = pairs.length > 600 ? 2.2 : 3.2;
  const dots = svg("g", { fill: colour(styleOf(role)), "fill-opacity": pairs.length > 600 ? 0.4 : 0.6 });
  for (const [x, y] of pairs) dots.append(svg("circle", { cx: px(x).toFixed(1), cy: py(y).toFixed(1), r }));
  root.append(dots);
  root.addEventListener("pointermove", (event) => {
    const area = root.getBoundingClientRect(), x = event.clientX - area.left, y = event.clientY - area.top;
    let best = null, least = 144;
    for (const p of pairs) {
      const far = (px(p[0]) - x) ** 2 + (py(p[1]) - y) ** 2;
      if (far < least) [best, least] = [p, far];
    }
    if (best) showTip(`true ${three(best[0])}\npredicted ${three(best[1])}`, area.left + px(best[0]), area.top + py(best[1]));
    else hideTip();
  });
  root.addEventListener("pointerleave", hideTip);
}
