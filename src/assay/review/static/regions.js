/** The regions of a table, decided on as its samples are. */
import { get, post } from "./api.js";
import { askUser } from "./ask.js";
import { Cuts } from "./cuts.js";
import { bdi, byId, el, glyph, notice } from "./dom.js";
import { session } from "./session.js";
import { ACTIONS, clock, count, figure, percent } from "./words.js";

const DOES = [
  ["collect", "+", "important", "collect more samples here"],
  ["filter", "✕", "filter out", "leave its samples out"],
  ["keep", "✓", "keep", "keep it as it is"],
  ["requeue", "↺", "reopen", "open again"],
];
const KINDS = [["mislabeled", "✖"], ["under_represented", "◆"], ["boundary", "▲"]];
const waiting = new Map(); // region → what is on its way

let found = [];

function standing(region) {
  const pending = waiting.get(region.region);
  if (pending) return el("span", { class: "standing", data: { state: "pending" } }, `… ${ACTIONS[pending].name}`);
  if (region.conflict) return el("span", { class: "standing", data: { action: "conflict", state: "conflict" } }, glyph("≠"), " experts differ: a decision now settles it");
  const one = region.decision;
  if (!one || one.action === "requeue") return el("span", { class: "standing" }, "open");
  const name = DOES.find(([action]) => action === one.action)?.[2] ?? one.action;
  return el("span", { class: "standing", data: { action: one.action } }, glyph(ACTIONS[one.action]?.glyph ?? "·"), ` ${name}`, el("small", {}, " ", bdi(one.who), ` ${clock(one.when)}`));
}

function buttons(region) {
  return DOES.map(([action, sign, name, words]) => {
    const on = !region.conflict && region.decision?.action === action;
    const useless = action === "requeue" && (!region.decision || region.decision.action === "requeue");
    return el("button", { type: "button", class: action, title: words, "aria-pressed": action === "requeue" ? null : on ? "true" : "false", disabled: useless, on: { click: () => decide(region, action) } }, glyph(sign), ` ${name}`);
  });
}

function classes(region) {
  const counts = Object.entries(typeof region.classes === "string" ? JSON.parse(region.classes) : (region.classes ?? {})).sort((a, b) => b[1] - a[1]);
  if (!counts.length) return null;
  return el("p", { class: "aside" }, "labels: ", counts.slice(0, 6).map(([name, number], i) => [i ? ", " : "", bdi(name), ` ${count(number)}`]), counts.length > 6 ? ` and ${counts.length - 6} more` : "");
}

function card(region, place) {
  const facts = [
    ["rows", count(region.rows)],
    ["of all influence", percent(region.influence_share)],
    ["times its share", figure(region.lift)],
    ["density", figure(region.density)],
    ["stability", figure(region.stability)],
  ];
  const kinds = KINDS.filter(([name]) => region[name] !== null && region[name] !== undefined).map(([name, sign]) => {
    const kind = name.replace("_", "-");
    return el("span", { class: `badge ${kind}`, title: `${kind}: ${percent(region[name])} of its rows` }, glyph(sign), el("span", { class: "sr" }, ` ${kind}`), ` ${percent(region[name])}`);
  });
  return el(
    "li",
    { class: "card region", data: { region: region.region, action: waiting.get(region.region) ?? region.decision?.action ?? "" } },
    el("div", { class: "title" }, el("span", { class: "place" }, String(place + 1)), el("h3", {}, bdi(region.rule)), standing(region)),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "kinds" }, kinds, classes(region)),
    el("div", { class: "choices", role: "group", "aria-label": `Decide on region ${place + 1}` }, buttons(region)),
  );
}

function draw() {
  const at = document.activeElement?.closest?.("[data-region]")?.dataset.region;
  const button = at && [...document.activeElement.parentElement.children].indexOf(document.activeElement);
  byId("regions").replaceChildren(...found.map(card));
  if (at) document.querySelector(`[data-region="${CSS.escape(at)}"] .choices`)?.children[button]?.focus();
  byId("none").hidden = found.length > 0;
}

async function known() {
  if (session.user) return true;
  const name = await askUser();
  if (!name) return false;
  session.user = (await post("/api/user", { name })).user;
  return true;
}

async function decide(region, action) {
  try {
    if (!(await known())) return;
    waiting.set(region.region, action);
    draw();
    const answer = await post("/api/decide-region", { region: region.region, action, note: null, resolves: Boolean(region.conflict) });
    Object.assign(region, { decision: answer.decision, conflict: answer.conflict });
  } catch (error) {
    notice(`Not saved: ${error.message}`, { tone: "bad", stays: true });
  }
  waiting.delete(region.region);
  draw();
}

async function undo() {
  try {
    if (!(await known())) return;
    const { undone } = await post("/api/undo", { key: crypto.randomUUID() });
    notice(undone ? `Undone: ${ACTIONS[undone.action]?.name ?? undone.action}${undone.row === null ? " of a region" : ` of sample ${undone.id}`}.` : "Nothing of yours is left to undo.");
    await read();
  } catch (error) {
    notice(`Not undone: ${error.message}`, { tone: "bad" });
  }
}

async function read() {
  const answer = await get("/api/regions");
  found = answer.regions;
  draw();
  document.body.dataset.ready = "yes";
}

byId("undo").addEventListener("click", undo);
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range]), select, dialog");
  if (event.key.toLowerCase() !== (session.keys?.undo ?? "z") || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  event.preventDefault();
  undo();
});
document.addEventListener("click", (event) => event.target.closest("[data-close]")?.closest("dialog").close());

new Cuts().start();
read().catch((error) => {
  byId("none").hidden = false;
  byId("none").textContent = error.message;
});
