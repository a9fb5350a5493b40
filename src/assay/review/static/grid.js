/** The list of samples as far as it was read. The page holds the cells in sight and a few more, however long the list. */
import { dress } from "./cell.js";
import { byId, el } from "./dom.js";
import { session } from "./session.js";

const PICTURES = session.media === "image";
const WIDTHS = [104, 148]; // of a cell with a picture, at least and for the sake of a long name
const SPARE = PICTURES ? 3 : 12; // lines beyond the sight, above and below

/** Pixels of the longest class name in a caption. */
function widest() {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `600 12px ${getComputedStyle(document.body).fontFamily}`;
  return Math.max(0, ...(session.classes ?? []).slice(0, 5000).map((name) => pen.measureText(`→ ${name}`).width));
}

export class Grid {
  items = [];
  index = -1; // the current sample
  anchor = -1; // where a range began; the current sample where there is none
  columns = 1;
  #cells = new Map();
  #places = new Map();

  /** `need(direction)` is called where the list ends, `chosen(item)` when another sample is the current one. */
  constructor({ need, chosen, opened }) {
    Object.assign(this, { need, chosen, opened });
    this.root = byId("grid");
    this.space = byId("space");
    this.cells = byId("cells");
    this.cells.classList.add(PICTURES ? "pictures" : "lines");
    this.root.addEventListener("scroll", () => this.draw(), { passive: true });
    this.cells.addEventListener("click", (event) => this.#clicked(event));
    new ResizeObserver(() => this.#measure()).observe(this.root);
    this.#measure();
  }

  get current() {
    return this.items[this.index] ?? null;
  }

  /** The current sample, or all of the range. */
  get selection() {
    if (!this.current) return [];
    return this.items.slice(Math.min(this.anchor, this.index), Math.max(this.anchor, this.index) + 1);
  }

  find(row) {
    return this.items[this.#places.get(row)] ?? null;
  }

  place(row) {
    return this.#places.get(row) ?? -1;
  }

  reset(items) {
    this.items = items;
    this.index = this.anchor = -1;
    this.#clear();
    this.#number();
    this.root.scrollTop = 0;
    this.draw();
  }

  append(items) {
    this.items.push(...items.filter((item) => !this.#places.has(item.row)));
    this.#number();
    this.draw();
  }

  prepend(items) {
    const fresh = items.filter((item) => !this.#places.has(item.row));
    const before = this.#top(fresh.length);
    this.items.unshift(...fresh);
    if (this.index >= 0) this.index += fresh.length;
    if (this.anchor >= 0) this.anchor += fresh.length;
    this.#clear();
    this.#number();
    this.draw();
    this.root.scrollTop += before;
    this.draw();
  }

  select(index, { extend = false, quiet = false } = {}) {
    if (!this.items.length) return;
    this.index = Math.max(0, Math.min(index, this.items.length - 1));
    if (!extend) this.anchor = this.index;
    this.#show();
    this.draw();
    if (!quiet) this.chosen(this.current);
  }

  /** The cell of this sample anew, where it is on the page. */
  update(row) {
    const index = this.#places.get(row);
    if (this.#cells.has(index)) this.#dress(index);
  }

  draw() {
    const [first, last] = this.#seen();
    this.space.style.height = `${Math.ceil(this.items.length / this.columns) * this.height}px`;
    this.cells.style.transform = `translateY(${this.#top(first)}px)`;
    for (const [index, cell] of this.#cells) {
      if (index < first || index >= last) (cell.remove(), this.#cells.delete(index));
    }
    for (let index = first; index < last; index++) this.#dress(index);
    if (this.index >= 0) this.root.setAttribute("aria-activedescendant", `cell-${this.current.row}`);
    else this.root.removeAttribute("aria-activedescendant");
    if (!this.items.length) return;
    if (last > this.items.length - 3 * this.columns) this.need("after");
    if (this.root.scrollTop < this.height) this.need("before");
  }

  #dress(index) {
    const item = this.items[index];
    let cell = this.#cells.get(index);
    if (!cell) {
      cell = el("div", { class: "cell", role: "option", id: `cell-${item.row}`, data: { row: item.row } });
      const next = [...this.#cells.keys()].filter((other) => other > index);
      this.cells.insertBefore(cell, next.length ? this.#cells.get(Math.min(...next)) : null);
      this.#cells.set(index, cell);
    }
    const [low, high] = [Math.min(this.anchor, this.index), Math.max(this.anchor, this.index)];
    dress(cell, item, { selected: index === this.index, ranged: low !== high && index >= low && index <= high });
  }

  #seen() {
    const top = Math.max(0, Math.floor(this.root.scrollTop / this.height) - SPARE);
    const bottom = Math.ceil((this.root.scrollTop + this.root.clientHeight) / this.height) + SPARE;
    return [Math.min(top * this.columns, this.items.length), Math.min(bottom * this.columns, this.items.length)];
  }

  #top(index) {
    return Math.floor(index / this.columns) * this.height;
  }

  #number() {
    this.#places = new Map(this.items.map((item, index) => [item.row, index]));
  }

  #clear() {
    this.#cells.clear();
    this.cells.replaceChildren();
  }

  #measure() {
    const room = this.root.clientWidth - 16;
    this.widest ??= widest();
    const width = Math.max(WIDTHS[0], Math.min(WIDTHS[1], this.widest + 24));
    this.columns = PICTURES ? Math.max(1, Math.floor(room / width)) : 1;
    const lines = Math.min(3, Math.max(1, Math.ceil((1.1 * this.widest) / (room / this.columns - 18)))); // all cells are of one height
    this.height = PICTURES ? 117 + 2 * 16 * lines : 34;
    this.cells.style.setProperty("--columns", this.columns);
    this.cells.style.setProperty("--height", `${this.height - 8}px`);
    this.cells.style.setProperty("--lines", lines);
    this.#show();
    this.draw();
  }

  #show() {
    if (this.index < 0) return;
    const top = this.#top(this.index);
    const room = this.root.clientHeight;
    const lowest = top + 2 * this.height - room; // the line below the current one is in sight, too
    if (this.root.scrollTop > top) this.root.scrollTop = Math.max(0, top - 4);
    else if (this.root.scrollTop < lowest) this.root.scrollTop = Math.min(lowest, top);
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    this.root.focus({ preventScroll: true });
    this.select(this.#places.get(Number(cell.dataset.row)), { extend: event.shiftKey });
    if (event.detail === 2) this.opened(this.current);
  }
}
