// One text, several models side by side. The models are asked one after another, so that each one's time is its own.

const at = (id) => document.getElementById(id);
const SHOWN = 6;  // probabilities a card shows before "more"
const CHECKED = 4;  // models that are chosen at first
let tasks = [];
let turn = 0;  // a newer comparison ends an older one

// ---- light and dark ------------------------------------------------------------------------------------------------

const themes = ["auto", "light", "dark"];
function useTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  at("theme").textContent = `Theme: ${theme}`;
}
const kept = (store, key) => { try { return store.getItem(key); } catch { return null; } };
const keep = (store, key, value) => { try { store.setItem(key, value); } catch { /* private mode */ } };
let theme = themes.includes(kept(localStorage, "attar-theme")) ? kept(localStorage, "attar-theme") : "auto";
useTheme(theme);
at("theme").addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  keep(localStorage, "attar-theme", theme);
  useTheme(theme);
});

// ---- the server ----------------------------------------------------------------------------------------------------

async function ask(path, body) {
  const token = at("token").value.trim();
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) };
  const response = await fetch(path, { headers, ...(body && { method: "POST", body: JSON.stringify(body) }) });
  const found = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw Object.assign(new Error(found.error), { status: response.status });
  return found;
}

async function loadTasks() {
  try {
    tasks = (await ask("/v1/tasks")).tasks;
    keep(sessionStorage, "attar-token", at("token").value.trim());
    say("");
  } catch (error) {
    tasks = [];
    if (error.status === 401) at("key").hidden = false;
    say(error.status === 401 && !at("token").value ? "" : `No models: ${error.message}`, true);
  }
  showTasks();
}

// ---- choosing ------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

function showTasks() {
  const wanted = new URLSearchParams(location.hash.slice(1) || location.search).getAll("task");
  const boxes = tasks.map((task, i) => {
    const checked = wanted.length ? wanted.includes(task.name) : i < CHECKED;
    const box = make("input", { type: "checkbox", name: "task", value: task.name, checked });
    return make("label", { class: "choice" }, box, make("span", {}, task.name, " ", make("small", {}, kindOf(task))));
  });
  at("models").replaceChildren(...(boxes.length ? boxes : [make("small", {}, at("key").hidden ? "None." : "They show when the token is given.")]));
  at("second").hidden = !tasks.some((task) => task.pairs);
  at("pick").hidden = tasks.length <= 2 * CHECKED;
}

const kindOf = (task) => `${task.kind}${task.pairs ? ", pairs" : ""}${task.kind === "regression" ? "" : `, ${task.labels.length} labels`}`;
const boxes = () => [...at("models").querySelectorAll("input")];
const chosen = () => boxes().filter((box) => box.checked).map((box) => tasks.find((task) => task.name === box.value));
const visible = () => boxes().filter((box) => !box.closest(".choice").hidden);
at("all").addEventListener("click", () => visible().forEach((box) => { box.checked = true; }));
at("none").addEventListener("click", () => visible().forEach((box) => { box.checked = false; }));
at("filter").addEventListener("input", () => {
  const sought = at("filter").value.trim().toLowerCase();
  for (const box of boxes()) box.closest(".choice").hidden = !box.value.toLowerCase().includes(sought);
});

// ---- comparing -----------------------------------------------------------------------------------------------------

function say(message, wrong = false) {
  at("status").textContent = message;
  at("status").classList.toggle("wrong", wrong);
}

async function compare() {
  const text = at("text").value, pair = at("pair").value, models = chosen();
  if (!text.trim()) { say("Type a text first.", true); at("text").focus(); return; }
  if (!models.length) { say("Choose at least one model.", true); return; }
  const mine = ++turn;
  const cards = models.map((task) => make("article", { class: "card" }, make("h2", {}, task.name), make("p", { class: "time" }, "…")));
  at("results").replaceChildren(...cards);
  for (const [i, task] of models.entries()) {
    say(`Asking ${task.name} (${i + 1} of ${models.length}) …`);
    const body = { texts: [text], tasks: task.name, ...(task.pairs && { pairs: [pair] }) };
    const start = performance.now();
    let parts;
    try {
      const found = await ask("/v1/predict", body);
      parts = answered(task, text, found.predictions[task.name][0], found.milliseconds, performance.now() - start);
    } catch (error) {
      parts = [make("p", { class: "wrong" }, error.message)];
    }
    if (mine !== turn) return;
    cards[i].replaceChildren(make("h2", {}, task.name), ...parts);
  }
  say(`${models.length} ${models.length === 1 ? "model" : "models"} answered.`);
}

const time = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
const percent = (p) => (p >= 0.9995 && p < 1 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`);

function answered(task, text, found, spent, total) {
  const head = make("p", { class: "time" }, `${time(spent.computed)} in the model, ${time(total)} there and back`);
  if (task.kind === "token") return [head, wordsOf(text, found)];
  if (task.kind === "regression") return [head, make("p", { class: "label" }, Number(found.label).toPrecision(4))];
  const names = [found.label].flat();
  const sure = make("small", {}, percent(found.confidence));
  const label = make("p", { class: "label" }, names.length ? names.join(", ") : "none of the labels", " ", sure);
  return [head, label, ...scoresOf(found.scores, new Set(names))];
}

function wordsOf(text, found) {
  const words = text.trim().split(/\s+/);
  return make("ul", { class: "words" }, ...words.map((word, i) => {
    const label = found.label[i] ?? "beyond the limit";
    const plain = label === "O";
    const sure = found.confidence[i] == null ? "" : percent(found.confidence[i]);
    return make("li", { class: plain ? "" : "tagged", title: `${label} ${sure}` }, word, make("small", {}, plain ? " " : label));
  }));
}

function scoresOf(scores, top) {
  const rows = Object.entries(scores).sort((a, b) => b[1] - a[1]).map(([name, p]) => {
    const fill = make("span", { class: "fill" });
    fill.style.width = `${100 * p}%`;
    const track = make("span", { class: "track", ariaHidden: "true" }, fill);
    return make("li", { class: top.has(name) ? "top" : "" }, make("span", { class: "name" }, name), make("span", { class: "value" }, percent(p)), track);
  });
  const first = make("ul", { class: "scores" }, ...rows.slice(0, SHOWN));
  if (rows.length <= SHOWN) return [first];
  const rest = make("ul", { class: "scores" }, ...rows.slice(SHOWN));
  return [first, make("details", {}, make("summary", {}, `${rows.length - SHOWN} more`), rest)];
}

// ---- links: the text stays behind the '#', which browsers do not send to the server --------------------------------

function link() {
  const parameters = new URLSearchParams({ text: at("text").value });
  if (!at("second").hidden && at("pair").value) parameters.set("pair", at("pair").value);
  for (const task of chosen()) parameters.append("task", task.name);
  return `${location.origin}/#${parameters}`;
}

at("share").addEventListener("click", async () => {
  history.replaceState(null, "", link());
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is in the clipboard. It holds the text.");
  } catch {
    say("The link is in the address bar. It holds the text.");
  }
});
at("form").addEventListener("submit", (event) => { event.preventDefault(); compare(); });
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); compare(); }
});
at("unlock").addEventListener("click", loadTasks);
at("token").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); loadTasks(); } });

async function open() {
  const given = new URLSearchParams(location.hash.slice(1) || location.search);
  at("token").value = kept(sessionStorage, "attar-token") ?? "";
  at("text").value = given.get("text") ?? "";
  at("pair").value = given.get("pair") ?? "";
  await loadTasks();
  if (given.get("text") && tasks.length) compare();
}
open();
