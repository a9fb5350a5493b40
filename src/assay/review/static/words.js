/** What things are called and how they look: a glyph beside every colour. */
import { session } from "./session.js";

export const KINDS = {
  mislabeled: { glyph: "✖", name: session.classes ? "mislabeled" : "suspect target" },
  "under-represented": { glyph: "◆", name: "under-represented" },
  boundary: { glyph: "▲", name: "boundary" },
  typical: { glyph: "●", name: "typical" },
};

export const ACTIONS = {
  keep: { glyph: "✓", name: "keep", does: "the given label is right" },
  relabel: { glyph: "→", name: "relabel", does: "as suggested" },
  drop: { glyph: "✕", name: "drop", does: "leave the sample out" },
  collect: { glyph: "+", name: "collect more", does: "more samples like this are wanted" },
  unsure: { glyph: "?", name: "unsure", does: "somebody else shall look" },
  filter: { glyph: "✕", name: "filter out", does: "leave the samples of the region out" },
  requeue: { glyph: "↺", name: "requeue", does: "open again" },
  undo: { glyph: "↶", name: "undone", does: "taken back" },
};

export const QUEUES = { all: "■", conflicts: "≠", unsure: "?", ...Object.fromEntries(Object.entries(KINDS).map(([k, v]) => [k, v.glyph])) };

/** A label as text: a regression has a number, or several. */
export function text(label) {
  if (Array.isArray(label)) return label.map(text).join(", ");
  if (typeof label === "number" && !session.classes) return String(Number(label.toPrecision(6)));
  return label === null || label === undefined ? "—" : String(label);
}

/** "keep", "relabel as deer". */
export function inWords(decision) {
  const name = ACTIONS[decision.action]?.name ?? decision.action;
  const label = decision.label ?? null;
  return decision.action === "relabel" && label !== null ? `relabel as ${text(label)}` : name;
}

export const count = (number) => Number(number).toLocaleString("en-GB");

/** 0.9082, 12.4, 1.2e-5. */
export function figure(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "—";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("e+", "e").replace("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

/** Between 0 and 1 with three digits; Cook's distance, in the queue of all, as a figure. */
export const score = (value) => (value !== null && value >= 0 && value <= 1 ? value.toFixed(3) : figure(value));

export const signed = (value) => (value > 0 ? "+" : "") + figure(value);

export const percent = (share) =>
  share === null || share === undefined ? "—" : share > 0 && share < 0.01 ? "<1 %" : share < 1 && share > 0.99 ? ">99 %" : `${Math.round(100 * share)} %`;

/** "14:05" today, else the day. */
export function clock(when) {
  const moment = new Date(when);
  if (Number.isNaN(moment.getTime())) return String(when);
  const today = moment.toDateString() === new Date().toDateString();
  return today ? moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }) : moment.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

/** Digit → class: itself where the classes are digits, else the first ten in order (1 to 9, then 0). */
export function digits(classes) {
  const found = new Map();
  if (!classes) return found;
  const own = classes.slice(0, 10).every((name) => /^\d$/.test(name));
  classes.slice(0, 10).forEach((name, i) => found.set(own ? name : String((i + 1) % 10), name));
  return found;
}
