/** One sample in the grid: its picture or its line, the two labels, what is wrong with it, what was decided. */
import { bdi, el, glyph } from "./dom.js";
import { session } from "./session.js";
import { state } from "./state.js";
import { thumbnail } from "./thumbs.js";
import { ACTIONS, KINDS, count, inWords, percent, score, text } from "./words.js";

/** On a cell an arrow is enough for "relabel as". */
const short = (decision) => (decision.action === "relabel" ? text(decision.label) : decision.action === "collect" ? "more" : inWords(decision));

/** What the mark on a cell says, and how it looks: saved, on its way, refused, or two experts of two minds. */
export function standing(item) {
  if (item.failed) return { state: "failed", action: "", glyph: "!", text: "not saved" };
  if (item.pending) return { state: "pending", action: item.pending.action, glyph: "…", text: inWords(item.pending), short: short(item.pending) };
  if (item.conflict) return { state: "conflict", action: "conflict", glyph: "≠", text: "experts differ" };
  if (!item.decision || item.decision.action === "requeue") return null;
  return { state: "saved", action: item.decision.action, glyph: ACTIONS[item.decision.action]?.glyph ?? "·", text: inWords(item.decision), short: short(item.decision) };
}

function mark(item) {
  const now = standing(item);
  if (!now) return null;
  const words = { pending: " (being saved)", failed: ` (${item.failed})` }[now.state] ?? (item.decision ? ` (${item.decision.who})` : "");
  return el("span", { class: "mark", title: now.text + words }, glyph(now.glyph), " ", el("span", { class: "word" }, bdi(now.short ?? now.text)));
}

function caption(item) {
  const differs = item.suggested !== item.given;
  return el(
    "span",
    { class: "caption" },
    el("span", { class: "given", title: item.given }, el("span", { class: "sr" }, "given "), bdi(item.given)),
    el("span", { class: differs ? "suggested" : "suggested same", title: item.suggested }, glyph("→ "), el("span", { class: "sr" }, ", suggested "), bdi(item.suggested)),
  );
}

const badge = (item) =>
  el("span", { class: `badge ${item.kind}`, title: KINDS[item.kind].name }, glyph(KINDS[item.kind].glyph), el("span", { class: "sr" }, KINDS[item.kind].name));

/** How high the score is, of those between 0 and 1. */
function bar(item) {
  if (!session.queues.find(({ name }) => name === state.queue)?.score.endsWith("_score")) return el("span", { class: "bar none", "aria-hidden": "true" });
  const full = el("span");
  full.style.width = `${100 * Math.max(0, Math.min(1, item.score ?? 0))}%`;
  return el("span", { class: "bar", "aria-hidden": "true" }, full);
}

function picture(item) {
  return [el("span", { class: "frame" }, thumbnail(item.row), badge(item)), caption(item), bar(item)];
}

function line(item) {
  return [
    el("span", { class: "rank" }, count(item.rank)),
    badge(item),
    el("span", { class: "id", title: String(item.id) }, bdi(item.id)),
    caption(item),
    el("span", { class: "sure" }, session.classes ? percent(item.confidence) : ""),
    bar(item),
    el("span", { class: "number" }, score(item.score)),
  ];
}

/** Makes the cell, or makes it anew where something of it changed: the picture stays. */
export function dress(cell, item, { selected, ranged }) {
  if (!cell.firstChild) cell.append(...(session.media === "image" ? picture(item) : line(item)));
  const now = standing(item);
  cell.dataset.state = now?.state ?? "open";
  cell.dataset.action = now?.action ?? "";
  cell.setAttribute("aria-selected", selected || ranged ? "true" : "false");
  cell.classList.toggle("current", selected);
  const said = JSON.stringify([now, item.failed ?? null]);
  if (cell.dataset.said === said) return;
  cell.dataset.said = said;
  cell.querySelector(".mark")?.remove();
  const made = mark(item);
  if (made) (cell.querySelector(".frame") ?? cell).append(made);
}
