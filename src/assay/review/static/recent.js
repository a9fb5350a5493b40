/** The last ten decisions of this expert; a click goes back to one. */
import { get } from "./api.js";
import { bdi, byId, el, glyph } from "./dom.js";
import { ACTIONS, clock, inWords } from "./words.js";

export class Recent {
  constructor(opened) {
    this.opened = opened;
    this.root = byId("recent");
  }

  async read() {
    try {
      this.#draw(await get("/api/recent"));
    } catch {
      // the next decision asks again
    }
  }

  #draw(decisions) {
    const lines = decisions.slice(0, 10).map((one) => {
      const words = [glyph(`${ACTIONS[one.action]?.glyph ?? "·"} `), bdi(one.region ? "region" : one.id), " ", el("span", {}, bdi(inWords(one)))];
      const body = one.row === null || one.row === undefined ? el("span", {}, words) : el("button", { type: "button", class: "link", on: { click: () => this.opened(one.row) } }, words);
      return el("li", { class: one.undone ? "undone" : "", data: { action: one.action } }, body, el("time", {}, clock(one.when)), one.undone ? el("span", { class: "sr" }, "undone") : null);
    });
    this.root.replaceChildren(...(lines.length ? lines : [el("li", { class: "aside" }, "none yet")]));
  }
}
