/** The map page: zoom, pan, hover, and a click that opens the sample. */
import { address, get } from "./api.js";
import { Chart, colour, shape, trace } from "./chart.js";
import { bdi, byId, el, glyph, notice } from "./dom.js";
import { session } from "./session.js";
import { thumbnail } from "./thumbs.js";
import { View } from "./view.js";
import { KINDS, count, percent } from "./words.js";

const canvas = byId("map");
const tip = byId("tip");
const PAN = 60; // pixels a key

const limitsOf = ({ x, y }) => [x, y].flatMap((values) => [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)]);

const open = (row) => (location.href = address("/", { queue: "all", row }));

function describe(data) {
  const [first, second] = data.explained ?? [];
  const words = [`${count(data.row.length)} ${data.kind === "raster" ? `suspects over the density of ${count(session.rows)} samples` : "samples"}`];
  if (first !== undefined) words.push(`the two axes hold ${percent(first)} and ${percent(second)} of the embedding's variance`);
  byId("about").textContent = `${words.join("; ")}. Size: Cook's distance.`;
}

function key(code, name, chart) {
  const swatch = el("canvas", { width: 28, height: 28, "aria-hidden": "true" });
  const paint = () => {
    const pen = swatch.getContext("2d");
    pen.clearRect(0, 0, 28, 28);
    trace(pen, shape(code), 14, 14, 9);
    pen.fillStyle = colour(code);
    pen.fill();
  };
  paint();
  document.addEventListener("theme", paint);
  const box = el("input", { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    if (box.checked) chart.hidden.delete(code);
    else chart.hidden.add(code);
    chart.draw();
  });
  return el("li", {}, el("label", {}, box, swatch, bdi(name)));
}

function legend(chart) {
  if (!session.classes) return;
  byId("legend").replaceChildren(...session.classes.map((name, code) => key(code, name, chart)));
  byId("all").addEventListener("click", () => toggle(true));
  byId("none").addEventListener("click", () => toggle(false));
  const toggle = (on) => {
    for (const box of byId("legend").querySelectorAll("input")) if (box.checked !== on) box.click();
  };
}

/** Which kinds are ringed: boundary samples may be most of all, so these are not at first. */
function kinds(chart) {
  const chosen = new Set([1, 2]);
  const lines = ["mislabeled", "under-represented", "boundary"].map((name, i) => {
    const box = el("input", { type: "checkbox", checked: chosen.has(i + 1) });
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(i + 1);
      else chosen.delete(i + 1);
      chart.ring(chosen);
      chart.draw();
    });
    const number = chart.data.kinds.reduce((sum, kind) => sum + (kind === i + 1), 0);
    return el("li", {}, el("label", {}, box, el("span", { class: `badge ${name}` }, glyph(KINDS[name].glyph), ` ${KINDS[name].name}`), el("small", {}, count(number))));
  });
  byId("ringed").replaceChildren(...lines);
}

function hover(chart, index) {
  if (chart.at === index) return;
  chart.at = index;
  chart.draw();
  tip.hidden = index < 0;
  if (index < 0) return;
  const { flagged } = chart;
  const { x, y, row, given } = chart.data;
  const [px, py] = chart.view.toPixels(x[index], y[index]);
  const name = session.classes ? session.classes[given[index]] : null;
  tip.replaceChildren(...(session.media === "image" ? [thumbnail(row[index], 96, "", true)] : []), el("p", {}, `row ${row[index]} `, name ? bdi(name) : "", flagged[index] ? el("b", {}, " suspect") : null));
  tip.style.left = `${Math.min(px + 14, chart.view.width - 130)}px`;
  tip.style.top = `${Math.min(py + 14, chart.view.height - 140)}px`;
}

/** Dragging pans, two fingers zoom, a press that does not move opens. */
function pointers(chart) {
  const down = new Map();
  let travelled = 0;
  const at = (event) => [event.offsetX, event.offsetY];
  const spread = () => Math.hypot(...[0, 1].map((axis) => [...down.values()][0][axis] - [...down.values()][1][axis]));
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return hover(chart, chart.nearest(...at(event)));
    const [x, y] = at(event);
    const [px, py] = down.get(event.pointerId);
    const before = down.size === 2 ? spread() : 0;
    down.set(event.pointerId, [x, y]);
    travelled += Math.abs(x - px) + Math.abs(y - py);
    if (down.size === 2) chart.view.zoomAt(x, y, spread() / (before || 1));
    else chart.view.pan(x - px, y - py);
    tip.hidden = true;
    chart.draw();
  });
  canvas.addEventListener("pointerup", async (event) => {
    const single = down.size === 1;
    down.delete(event.pointerId);
    if (!single || travelled > 4) return;
    const index = chart.nearest(...at(event));
    if (index >= 0) return open(chart.data.row[index]);
    if (chart.data.kind !== "raster") return;
    const [x, y] = chart.view.toData(...at(event));
    try {
      const { row } = await get("/api/map/at", { x, y });
      if (row !== null) open(row);
    } catch (error) {
      notice(error.message, { tone: "bad" });
    }
  });
  canvas.addEventListener("pointercancel", (event) => down.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => hover(chart, -1));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    chart.view.zoomAt(...at(event), Math.exp(-event.deltaY / 400));
    chart.draw();
  }, { passive: false });
}

function keyboard(chart) {
  const zoom = (factor) => (chart.view.zoomAt(chart.view.width / 2, chart.view.height / 2, factor), chart.draw());
  const home = () => (chart.view.home(), chart.draw());
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const does = { "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: home };
  byId("in").addEventListener("click", () => zoom(1.4));
  byId("out").addEventListener("click", () => zoom(1 / 1.4));
  byId("home").addEventListener("click", home);
  canvas.addEventListener("keydown", (event) => {
    const step = arrows[event.key];
    if (step && event.shiftKey) (chart.view.pan(-PAN * step[0], -PAN * step[1]), chart.draw());
    else if (step) (hover(chart, chart.towards(...step)), say(chart));
    else if (event.key === "Enter" && chart.at >= 0) open(chart.data.row[chart.at]);
    else if (does[event.key]) does[event.key]();
    else return;
    event.preventDefault();
  });
}

function say(chart) {
  if (chart.at < 0) return;
  const { flagged } = chart;
  const { row, given } = chart.data;
  byId("live").textContent = `row ${row[chart.at]}${session.classes ? `, ${session.classes[given[chart.at]]}` : ""}${flagged[chart.at] ? ", suspect" : ""}`;
}

async function start() {
  byId("about").textContent = "The map is being made …";
  const answer = await get("/api/map");
  const data = answer.kind === "raster" ? { ...answer, ...answer.points, limits: answer.limits.flat() } : answer;
  const chart = new Chart(canvas, data, new View(data.limits ?? limitsOf(data)));
  if (answer.kind === "raster") {
    const image = new Image();
    image.addEventListener("load", () => ((chart.image = image), chart.draw()));
    image.src = answer.png;
  }
  describe(data);
  legend(chart);
  kinds(chart);
  pointers(chart);
  keyboard(chart);
  byId("only").addEventListener("change", (event) => ((chart.only = event.target.checked), chart.draw()));
  document.addEventListener("theme", () => chart.draw());
  new ResizeObserver(() => chart.resize()).observe(canvas);
  chart.resize();
  document.body.dataset.ready = "yes";
}

start().catch((error) => (byId("about").textContent = error.message));
