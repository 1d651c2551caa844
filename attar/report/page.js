// Behaviour: which run is shown, what is drawn, sorting, the list of disagreements, copying, light and dark.

const DATA = JSON.parse(document.getElementById("data").textContent);
const PAGE = 50;

// ---- charts --------------------------------------------------------------------------------------------------------

function draw(host) {
  if (!host.clientWidth) return;
  const article = host.closest(".run"), kind = host.dataset.chart;
  const run = DATA.runs[article.dataset.run];
  const chosen = (name) => article.querySelector(`[data-model="${name}"]`)?.value;
  const drawings = {
    pareto: () => drawPareto(host),
    speed: () => drawTradeOff(host, run.trade_offs, "speed", run.metric),
    size: () => drawTradeOff(host, run.trade_offs, "bytes", run.metric),
    losses: () => drawLines(host, run.curves[host.dataset.index].losses, "Training loss by step", true),
    dev: () => drawLines(host, run.curves[host.dataset.index].dev, "Dev metrics by step", false),
    confusion: () => drawConfusion(host, run.confusion, Number(chosen("confusion")), pressed(article.querySelector("[data-normalise]"))),
    calibration: () => drawCalibration(host, run.calibration),
    values: () => drawValues(host, run.values[chosen("values")], chosen("values")),
  };
  drawings[kind]();
}

const pressed = (button) => button.getAttribute("aria-pressed") === "true";

const widths = new WeakMap();
const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (widths.get(target) === target.clientWidth) continue;
    widths.set(target, target.clientWidth);
    draw(target);
  }
});
for (const host of document.querySelectorAll("[data-chart]")) watcher.observe(host);

for (const select of document.querySelectorAll("[data-model]"))
  select.addEventListener("change", () => draw(select.closest(".run").querySelector(`[data-chart="${select.dataset.model}"]`)));
for (const button of document.querySelectorAll("[data-normalise]"))
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(!pressed(button)));
    draw(button.closest(".run").querySelector('[data-chart="confusion"]'));
  });
for (const host of document.querySelectorAll("[data-mark]"))
  host.append(svg("svg", { width: 13, height: 13 }, mark(styleOf(host.dataset.mark), 6.5, 6.5, 5)));

// ---- which run is shown --------------------------------------------------------------------------------------------

const articles = [...document.querySelectorAll(".run")];
const picker = document.getElementById("run-picker");

function openRun(key) {
  for (const article of articles) article.hidden = article.dataset.run !== key;
  setUpList(articles.find((article) => article.dataset.run === key));
  if (picker) picker.value = key;
  hideTip();
}

function openHash() {
  const target = document.getElementById(location.hash.slice(1));
  const article = target?.closest(".run");
  openRun((article ?? articles[0]).dataset.run);
  if (article && target !== article) target.scrollIntoView();
  else scrollTo(0, 0);
}

if (picker) picker.addEventListener("change", () => { location.hash = picker.value; });
addEventListener("hashchange", openHash);

const spy = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const link = document.querySelector(`.contents a[href="#${target.id}"]`);
    if (!link || !isIntersecting) continue;
    for (const other of link.parentElement.children) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -75% 0px" });
for (const section of document.querySelectorAll("section[id]")) spy.observe(section);

// ---- tables --------------------------------------------------------------------------------------------------------

function orderOf(row, column) {
  const cell = row.children[column];
  const text = cell.dataset.order ?? cell.textContent.replaceAll(",", "");
  return text === "" || text === "–" ? null : Number.isNaN(Number(text)) ? text.toLowerCase() : Number(text);
}

/** Compare two values; what is missing goes last in either direction. */
function compare(a, b, sign) {
  if (a == null || b == null) return (a == null) - (b == null);
  if (typeof a !== typeof b) [a, b] = [String(a), String(b)];
  return sign * (a < b ? -1 : a > b ? 1 : 0);
}

for (const button of document.querySelectorAll(".sort"))
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    const column = [...head.parentElement.children].indexOf(head);
    for (const other of table.querySelectorAll("[aria-sort]")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    body.append(...[...body.rows].sort((a, b) => compare(orderOf(a, column), orderOf(b, column), sign)));
  });

// ---- where two models disagree -------------------------------------------------------------------------------------

const said = (value) => (value == null ? "–" : typeof value === "number" ? three(value) : value);

function answer(who, value, confidence, truth, judged) {
  const state = !judged || truth == null ? "" : value === truth ? "right" : "wrong";
  const sure = confidence == null ? "" : ` ${(100 * confidence).toFixed(0)} %`;
  return html("span", { class: state }, `${who} `, html("b", {}, said(value)), sure);
}

function item(row, list) {
  const judged = !list.regression;
  return html("div", { class: "item" },
    html("p", {}, row.text || "–"),
    row.pair ? html("p", { class: "second" }, row.pair) : null,
    html("div", { class: "answers" },
      answer("true", row.true, null, null, false),
      list.teacher ? answer("teacher", row.teacher, row.teacher_confidence, row.true, judged) : null,
      answer(list.product, row.product, row.confidence, row.true, judged)));
}

function setUpList(article) {
  const controls = article.querySelector("[data-list-controls]");
  if (!controls || article.dataset.listed) return;
  article.dataset.listed = "yes"; // a list is made when its run is first opened: a page may hold fifty
  const list = DATA.runs[article.dataset.run].disagreements;
  const find = (name) => article.querySelector(`[data-${name}]`);
  const [search, filter, sort, box, more, count] = ["search", "filter", "sort", "list", "more", "count"].map(find);
  for (const row of list.rows) row.words = [row.text, row.pair, row.true, row.teacher, row.product].join(" ").toLowerCase();
  let rows = list.rows, shown = 0;
  const extend = () => {
    box.append(...rows.slice(shown, shown + PAGE).map((row) => item(row, list)));
    shown = Math.min(rows.length, shown + PAGE);
    more.hidden = shown >= rows.length;
    count.textContent = `${rows.length.toLocaleString("en")} found, ${shown.toLocaleString("en")} shown`;
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = filter?.value, key = sort.value;
    rows = list.rows.filter((row) => (!wanted || row.right === wanted) && words.every((word) => row.words.includes(word)));
    const value = key === "length" ? (row) => row.text.length : (row) => row[key];
    if (key) rows.sort((a, b) => compare(value(a), value(b), key.includes("confidence") ? -1 : 1));
    shown = 0;
    box.replaceChildren();
    extend();
  };
  search.addEventListener("input", update);
  for (const control of [filter, sort]) control?.addEventListener("change", update);
  more.addEventListener("click", extend);
  update();
}

// ---- copying, light and dark ---------------------------------------------------------------------------------------

async function copy(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // A page opened from a file may not be allowed to write the clipboard: select the text for the reader instead.
    getSelection().selectAllChildren(code);
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1600);
}
for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copy(button));

const THEMES = ["auto", "light", "dark"];
const themeButton = document.getElementById("theme");
function setTheme(theme) {
  document.documentElement.style.colorScheme = theme === "auto" ? "" : theme;
  themeButton.textContent = `Theme: ${theme}`;
  themeButton.dataset.theme = theme;
  try { localStorage.setItem("attar-theme", theme); } catch { /* storage may be closed to files */ }
}
themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(themeButton.dataset.theme) + 1) % 3]));
let kept = null;
try { kept = localStorage.getItem("attar-theme"); } catch { /* as above */ }
setTheme(THEMES.includes(kept) ? kept : "auto");
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
addEventListener("scroll", hideTip, { passive: true });
openHash();
