/** Reads the list page by page, in both directions, as far as the expert scrolls. */
import { get } from "./api.js";
import { byId, notice } from "./dom.js";
import { filters } from "./state.js";
import { count, text } from "./words.js";

const PAGE = 120;

/** Labels as the page writes them. */
function readable(item) {
  item.given = text(item.given);
  item.suggested = text(item.suggested);
}

export class Listing {
  #next = null;
  #previous = null;
  #reading = false;
  #turn = 0;

  constructor(grid) {
    this.grid = grid;
    this.total = 0;
  }

  /** From the start, a sample or a rank; the place stays where it was found. */
  async begin({ row = null, rank = null } = {}) {
    const turn = ++this.#turn;
    this.#reading = true;
    byId("grid").setAttribute("aria-busy", "true");
    try {
      const answer = await get("/api/queue", { ...filters(), limit: PAGE, row, rank });
      if (turn !== this.#turn) return;
      this.#take(answer);
      answer.items.forEach(readable);
      this.#next = answer.next;
      this.#previous = answer.previous;
      this.grid.reset(answer.items);
    } catch (error) {
      if (turn === this.#turn) this.grid.reset([]);
      notice(error.message, { tone: "bad", name: "listing" });
    } finally {
      if (turn === this.#turn) this.#reading = false;
      byId("grid").removeAttribute("aria-busy");
    }
    if (turn !== this.#turn) return;
    this.grid.draw();
    byId("empty").hidden = this.grid.items.length > 0;
  }

  async more(direction) {
    const cursor = direction === "after" ? this.#next : this.#previous;
    if (this.#reading || cursor === null || cursor === undefined) return;
    const turn = this.#turn;
    this.#reading = true;
    try {
      const answer = await get("/api/queue", { ...filters(), limit: PAGE, [direction]: cursor });
      if (turn !== this.#turn) return;
      answer.items.forEach(readable);
      if (direction === "after") {
        this.#next = answer.next;
        this.grid.append(answer.items);
      } else {
        this.#previous = answer.previous;
        this.grid.prepend(answer.items);
      }
    } catch (error) {
      notice(error.message, { tone: "bad", name: "listing" });
      await new Promise((go) => setTimeout(go, 1000));
    } finally {
      if (turn === this.#turn) this.#reading = false;
    }
  }

  #take(answer) {
    this.total = answer.total;
    byId("total").textContent = `${count(answer.total)} in this list`;
  }
}
