/** The current sample: what it is, what is said of it, what was decided. */
import { address, latest } from "./api.js";
import { standing } from "./cell.js";
import { bdi, byId, el, glyph, settled } from "./dom.js";
import { digits } from "./words.js";
import { session } from "./session.js";
import { state } from "./state.js";
import { thumbnail } from "./thumbs.js";
import { KINDS, clock, count, figure, inWords, percent, text } from "./words.js";

const CLASSES = 7; // shown with their probability, most probable first, the given one among them
const SCORES = [
  ["mislabeled_score", "✖", "mislabeled"],
  ["under_represented_score", "◆", "under-represented"],
  ["boundary_score", "▲", "boundary"],
];
const NUMBERS = [
  ["cooks_distance", "Cook's distance"],
  ["leverage", "leverage"],
  ["loss", "loss"],
  ["loo_loss", "loss without it"],
  ["label_score", "label score"],
];
const keysOf = new Map([...digits(session.classes)].map(([digit, name]) => [name, digit]));
const read = latest();

function labels(item) {
  return el(
    "dl",
    { class: "labels" },
    el("div", {}, el("dt", {}, "given"), el("dd", { class: "given" }, bdi(item.given))),
    el(
      "div",
      {},
      el("dt", {}, session.classes ? "suggested" : "predicted"),
      el("dd", { class: item.suggested === item.given ? "suggested same" : "suggested" }, bdi(item.suggested), session.classes ? el("small", {}, ` ${percent(item.confidence)}`) : null),
    ),
  );
}

function head(item, sample) {
  const facts = el(
    "div",
    { class: "facts" },
    el("p", { class: "id" }, el("span", { class: `badge ${item.kind}` }, glyph(KINDS[item.kind].glyph), ` ${KINDS[item.kind].name}`), el("span", {}, "sample ", bdi(item.id)), el("span", {}, `rank ${count(item.rank)}`)),
    labels(item),
    item.held_out ? el("p", { class: "aside" }, "held out: the head was not trained on it") : null,
    decided(item, sample),
  );
  if (session.media !== "image") return el("div", { class: "head plain" }, facts);
  const image = thumbnail(item.row, 384, `Sample ${item.id}, labelled ${item.given}`, true);
  const button = el("button", { type: "button", class: "picture", id: "picture", "aria-label": "Enlarge the picture" }, image);
  button.addEventListener("click", () => zoom(item));
  return el("div", { class: "head" }, button, facts);
}

/** What stands, and what every expert said where they differ. */
function decided(item, sample) {
  const now = standing(item);
  if (!now) return el("p", { class: "standing open" }, "open");
  const words = { pending: "being saved", failed: item.failed ?? "", conflict: "any decision now resolves it" }[now.state];
  const who = now.state === "saved" ? [" by ", bdi(item.decision.who), `, ${clock(item.decision.when)}`] : [words ? `: ${words}` : ""];
  const line = el("p", { class: "standing", data: { action: now.action, state: now.state } }, glyph(now.glyph), " ", bdi(now.text), ...who);
  const history = (sample?.history ?? []).filter((one) => !one.undone);
  const notes = history.filter((one) => one.note);
  if (!item.conflict) return [line, notes.map((one) => el("p", { class: "aside" }, bdi(one.who), ": ", bdi(one.note)))];
  return [line, el("ul", { class: "history" }, history.map((one) => el("li", {}, el("b", {}, bdi(one.who)), " ", bdi(inWords(one)), el("small", {}, ` ${clock(one.when)}`), one.note ? [" ", bdi(one.note)] : null)))];
}

function meter(share, name) {
  const full = el("span");
  full.style.width = `${100 * Math.max(0, Math.min(1, share ?? 0))}%`;
  return el("span", { class: `meter ${name}`, "aria-hidden": "true" }, full);
}

function probabilities(sample, relabel) {
  if (!sample.probabilities?.length) return null;
  const given = text(sample.given);
  const first = sample.probabilities.slice(0, CLASSES);
  const own = sample.probabilities.find(({ label }) => label === given);
  if (own && !first.includes(own)) first[CLASSES - 1] = own;
  const rows = first.map(({ label, p }) => {
    const is = label === given ? "given" : label === text(sample.suggested) ? "suggested" : "";
    const key = keysOf.get(label);
    const button = el("button", { type: "button", class: "class", title: `${is ? `${is}; ` : ""}relabel as ${label}`, on: { click: () => relabel(label) } }, key ? el("kbd", {}, key) : null, is ? [glyph(is === "given" ? "=" : "→"), el("span", { class: "sr" }, is)] : null, bdi(label));
    return el("li", { class: is }, button, meter(p, is), el("span", { class: "number" }, percent(p)));
  });
  const more = sample.probabilities.length - rows.length;
  return el("section", { class: "block" }, el("h3", {}, "The model, without it"), el("ol", { class: "classes" }, rows), more > 0 ? el("p", { class: "aside" }, `and ${more} more: find them with /`) : null);
}

function scores(sample) {
  const { scores, words } = sample;
  const kinds = SCORES.filter(([name]) => scores[name] !== undefined && scores[name] !== null).map(([name, sign, kind]) =>
    el("li", { class: kind }, el("span", { class: "name" }, glyph(sign), ` ${kind}`), meter(scores[name], kind), el("span", { class: "number" }, scores[name].toFixed(3))),
  );
  const numbers = NUMBERS.filter(([name]) => scores[name] !== undefined && scores[name] !== null).map(([name, title]) =>
    el("div", { title: words[name] ?? null }, el("dt", {}, title), el("dd", {}, figure(scores[name]), name === "cooks_distance" && scores.cooks_rank ? el("small", { title: "its rank by Cook's distance" }, ` #${count(scores.cooks_rank)}`) : null)),
  );
  return el(
    "section",
    { class: "block scores" },
    el("h3", {}, "Scores"),
    el("ul", { class: "kinds" }, kinds),
    el("dl", { class: "numbers" }, numbers),
  );
}

const NAMES = Object.fromEntries([...SCORES.map(([name, , kind]) => [name, kind]), ...NUMBERS, ["logit_variance", "logit variance"]]);

/** Every number in words, below the why: who knows them reads no further. */
function inSentences({ words }) {
  const lines = Object.entries(words).map(([name, sentence]) => el("div", {}, el("dt", {}, NAMES[name] ?? name), el("dd", {}, sentence)));
  return lines.length ? [el("h3", {}, "What the numbers say"), el("dl", { class: "words" }, lines)] : [];
}

function fields(sample) {
  if (!sample.fields?.length || (session.media === "image" && sample.fields.length < 2)) return null; // the label alone is no news
  const rows = sample.fields.map(({ name, value, quantile }) => {
    const place = quantile === null || quantile === undefined ? null : el("span", { class: "place", role: "img", "aria-label": `above ${percent(quantile)} of the samples`, title: `above ${percent(quantile)} of the samples` }, el("span"));
    if (place) place.firstChild.style.left = `${100 * quantile}%`;
    if (typeof value === "string" && value.length > 60) return el("tr", {}, el("td", { colspan: 3 }, el("small", {}, bdi(name)), el("p", { class: "long" }, bdi(value))));
    return el("tr", {}, el("th", { scope: "row" }, bdi(name)), el("td", { class: "value" }, bdi(typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value)), el("td", {}, place));
  });
  const table = el("table", { class: "fields" }, el("caption", { class: "sr" }, "The sample's values and their place among all samples"), el("tbody", {}, rows));
  const cut = session.table ? el("a", { class: "cut", href: address("/regions", { row: sample.row }) }, "cut through it") : null;
  return el("section", { class: "block wide" }, el("h3", {}, session.table ? "Values, and their place among all" : "The sample", cut), table);
}

export function zoom(item) {
  const dialog = byId("zoom");
  if (!item || session.media !== "image") return;
  byId("zoomed").replaceChildren(thumbnail(item.row, 384, `Sample ${item.id}`, true), el("p", {}, "sample ", bdi(item.id), ", given ", bdi(item.given), ", suggested ", bdi(item.suggested)));
  dialog.showModal();
}

/** Draws what is known of `item` at once, the rest when it has come. */
export class Panel {
  #shown = null;
  #sample = null;

  constructor({ relabel, why }) {
    Object.assign(this, { relabel, why });
    this.root = byId("sample");
    this.words = byId("words");
    this.fetch = settled((item) => this.#fetch(item), 60);
  }

  show(item) {
    if (!item) {
      this.#shown = this.#sample = null;
      this.root.replaceChildren(el("p", { class: "empty" }, "Nothing is chosen."));
      this.why.clear();
      this.words.replaceChildren();
      return;
    }
    if (this.#shown?.row !== item.row) {
      this.#sample = null;
      this.why.clear();
      this.fetch(item);
    }
    this.#shown = item;
    this.#draw();
  }

  /** What stands has changed. */
  update(item) {
    if (this.#shown?.row === item.row) this.show(item);
  }

  async #fetch(item) {
    this.why.show(item);
    try {
      const sample = await read(`/api/sample/${item.row}`, { queue: state.queue });
      if (!sample || this.#shown?.row !== item.row) return;
      this.#sample = sample;
      this.#draw();
    } catch (error) {
      this.body?.replaceChildren(el("p", { class: "aside" }, error.message));
    }
  }

  #draw() {
    const [item, sample] = [this.#shown, this.#sample];
    this.words.replaceChildren(...(sample ? inSentences(sample) : []));
    const body = sample ? [probabilities(sample, this.relabel), scores(sample), fields(sample)] : [el("p", { class: "aside" }, "reading …")];
    this.body = el("div", { class: "body" }, body);
    if (this.head?.dataset.row === String(item.row) && session.media === "image") {
      this.head.querySelector(".facts").replaceWith(head(item, sample).querySelector(".facts"));
      this.root.replaceChildren(this.head, this.body);
      return;
    }
    this.head = head(item, sample);
    this.head.dataset.row = item.row;
    this.root.replaceChildren(this.head, this.body);
  }
}
