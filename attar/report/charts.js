// Drawing: SVG by hand, in the width that the page gives. Text only ever enters as text nodes.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "1 4"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const ROLES = { student: 0, tuned: 0, teacher: 1, "labels-only": 2, linear: 3 };

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

const styleOf = (role) => ROLES[role] ?? 4;
const colour = (index) => `var(--s${(index % 5) + 1})`;

function mark(index, x, y, r = 6) {
  const shape = SHAPES[index % 5];
  const paths = {
    square: `M${-r} ${-r}H${r}V${r}H${-r}Z`,
    triangle: `M0 ${-r * 1.2}L${r * 1.15} ${r * 0.9}H${-r * 1.15}Z`,
    diamond: `M0 ${-r * 1.35}L${r * 1.35} 0 0 ${r * 1.35} ${-r * 1.35} 0Z`,
    cross: `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`,
  };
  const at = { transform: `translate(${x} ${y})`, stroke: "var(--paper)", "stroke-width": 1, fill: colour(index) };
  if (shape === "circle") return svg("circle", { ...at, r: r * 1.08 });
  if (shape === "cross") Object.assign(at, { stroke: colour(index), "stroke-width": r / 2.4, fill: "none" });
  return svg("path", { ...at, d: shape === "square" ? scaled(r * 0.95) : paths[shape] });
}

const scaled = (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`;

// ---- numbers -------------------------------------------------------------------------------------------------------

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return trim(value / 1e9) + " G";
  if (size >= 1e6) return trim(value / 1e6) + " M";
  if (size >= 1e4) return trim(value / 1e3) + " k";
  return size >= 1000 ? Math.round(value).toLocaleString("en") : trim(value);
}

const bytes = (value) => (value >= 1e9 ? trim(value / 1e9) + " GB" : value >= 1e6 ? trim(value / 1e6) + " MB" : trim(value / 1e3) + " kB");
const trim = (value) => String(Number(value.toPrecision(3)));
const three = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(3));

function linearTicks(low, high, wanted = 5) {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  const ticks = (steps) => {
    const found = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
      for (const m of steps) if (m * 10 ** p >= low * 0.999 && m * 10 ** p <= high * 1.001) found.push(m * 10 ** p);
    return found;
  };
  return [[1], [1, 3], [1, 2, 5]].map(ticks).find((found) => found.length > 3) ?? ticks([1, 2, 3, 5, 7]);
}

function padded(values, share = 0.12, least = 0.02) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max((high - low) * share, least / 2);
  return [low - room, high + room];
}

// ---- the frame of a chart ------------------------------------------------------------------------------------------

/** Draw axes into `host` and return the scales. `x` and `y` are {range, label, log, format, ticks}. */
function frame(host, { height = 290, x, y, label, left = 50, right = 20, square = false }) {
  const width = Math.max(host.clientWidth, 240);
  if (square) height = Math.min(width, 430);
  const box = { left, right: width - right, top: 10, bottom: height - 44 };
  const scale = (axis, from, to) => {
    const f = axis.log ? Math.log10 : (v) => v;
    const [low, high] = axis.range.map(f);
    return (v) => from + ((f(v) - low) / (high - low || 1)) * (to - from);
  };
  const px = scale(x, box.left, box.right), py = scale(y, box.bottom, box.top);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
  const ticksOf = (axis, n) => axis.ticks ?? (axis.log ? logTicks(...axis.range) : linearTicks(...axis.range, n));
  for (const v of ticksOf(y, 5)) {
    root.append(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: py(v), y2: py(v) }));
    root.append(svg("text", { x: box.left - 8, y: py(v) + 4, "text-anchor": "end" }, (y.format ?? trim)(v)));
  }
  let last = -Infinity;
  for (const v of ticksOf(x, width < 400 ? 4 : 6)) {
    root.append(svg("line", { class: "grid", x1: px(v), x2: px(v), y1: box.top, y2: box.bottom }));
    if (px(v) - last < 44) continue;
    last = px(v);
    root.append(svg("text", { x: px(v), y: box.bottom + 17, "text-anchor": "middle" }, (x.format ?? trim)(v)));
  }
  root.append(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  root.append(svg("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
  if (y.label) root.append(svg("text", { transform: `translate(12 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.label));
  host.replaceChildren(root);
  return { root, px, py, box };
}

function empty(host, words) {
  host.replaceChildren(html("p", { class: "empty" }, words));
}

function legend(host, entries) {
  const list = html("ul", { class: "legend" });
  for (const { name, index, line } of entries) {
    const key = svg("svg", { width: line ? 26 : 12, height: 12, "aria-hidden": "true" });
    if (line) key.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: colour(index), "stroke-width": 2, "stroke-dasharray": DASHES[index % 5] }));
    key.append(mark(index, line ? 13 : 6, 6, 4));
    list.append(html("li", {}, key, name));
  }
  host.prepend(list);
}

// ---- tooltips ------------------------------------------------------------------------------------------------------

function showTip(text, left, top) {
  const tip = document.getElementById("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(left + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${top - height - 12 < 4 ? top + 18 : top - height - 12}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

/** Make a mark tell `text` on hover, touch and focus. */
function tells(node, text) {
  const show = () => {
    const { left, top, width } = node.getBoundingClientRect();
    showTip(text, left + width / 2, top);
  };
  fill(node, { tabindex: 0, role: "img", "aria-label": text.replaceAll("\n", ", ") }, []);
  for (const event of ["mouseenter", "click"]) node.addEventListener(event, show);
  // Focus may scroll the page first, and scrolling hides the tip.
  node.addEventListener("focus", () => requestAnimationFrame(show));
  for (const event of ["mouseleave", "blur"]) node.addEventListener(event, hideTip);
  return node;
}
