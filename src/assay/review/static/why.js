/** Why a sample stands where it stands: who holds it up, who speaks against it, who is like it. */
import { latest } from "./api.js";
import { bdi, byId, el, glyph, settled } from "./dom.js";
import { session } from "./session.js";
import { here } from "./state.js";
import { thumbnail } from "./thumbs.js";
import { ACTIONS, figure, inWords, signed, text } from "./words.js";

const SHOWN = 5;
const read = latest();

const SIDES = [
  ["supporters", "+", "Supporters", "hold its label up"],
  ["opponents", "−", "Opponents", "speak against it"],
  ["neighbours", "≈", "Nearest", "like it in the embedding"],
];

function neighbour(one, opened) {
  const value = one.influence !== undefined && one.influence !== null ? signed(one.influence) : figure(one.distance);
  const face = session.media === "image" ? thumbnail(one.row, 96, "", true) : el("span", { class: "row" }, bdi(one.id));
  const decision = one.decision ? el("span", { class: "was", title: inWords(one.decision) }, glyph(ACTIONS[one.decision.action]?.glyph ?? ""), el("span", { class: "sr" }, inWords(one.decision))) : null;
  const link = el(
    "a",
    { href: here({ row: one.row, queue: "all", status: null, given: null, suggested: null, low: null, high: null }), title: `sample ${one.id}, labelled ${text(one.given)}` },
    face,
    decision,
    el("span", { class: "name" }, el("span", { class: "sr" }, `sample ${one.id}, labelled `), bdi(text(one.given))),
    el("span", { class: "number" }, value),
  );
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    opened(one.row);
  });
  return el("li", {}, link);
}

export class Why {
  constructor(opened) {
    this.opened = opened;
    this.root = byId("why");
    this.show = settled((item) => this.#show(item), 120);
  }

  clear() {
    this.root.replaceChildren();
  }

  async #show(item) {
    this.root.setAttribute("aria-busy", "true");
    try {
      const why = await read(`/api/why/${item.row}`);
      if (why) this.#draw(why);
    } catch (error) {
      this.root.replaceChildren(el("p", { class: "aside" }, error.message));
    }
    this.root.removeAttribute("aria-busy");
  }

  #draw(why) {
    const sides = SIDES.filter(([name]) => why[name]).map(([name, sign, title, words]) =>
      el(
        "div",
        { class: `side ${name}` },
        el("h3", {}, glyph(sign), ` ${title} `, el("small", {}, words)),
        why[name].length ? el("ol", {}, why[name].slice(0, SHOWN).map((one) => neighbour(one, this.opened))) : el("p", { class: "aside" }, "none"),
      ),
    );
    this.root.replaceChildren(el("p", { class: "sentence" }, why.sentence), ...sides);
  }
}
