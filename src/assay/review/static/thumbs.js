/** Pictures. Those of the list come many in one answer, since a request costs more than a thumbnail; and two answers at a
 *  time: a browser opens six connections to a server, and a decision shall never wait behind pictures. */
import { get } from "./api.js";
import { el } from "./dom.js";

const SMALL = 96; // pixels a side, at most
const EACH = 40; // thumbnails of an answer
const AT_ONCE = 2;
const KEPT = 4000; // thumbnails that the page holds on to

const kept = new Map(); // by row, the oldest first
const queues = [[], []]; // what is urgent, what is not
let running = 0;
let planned = false;

function keep(row, address) {
  kept.set(row, address);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

function show(image, address) {
  if (address) image.src = address;
  else image.classList.add("missing");
}

async function small(wanted) {
  let found = {};
  try {
    const rows = [...new Set(wanted.map(({ row }) => row))];
    found = (await get("/api/pictures", { rows: rows.join(",") })).pictures;
  } catch {
    // what there is no picture of says so itself
  }
  for (const { image, row } of wanted) {
    if (found[row]) keep(row, found[row]);
    show(image, found[row]);
  }
}

const large = ({ image, row, size }) =>
  new Promise((done) => {
    image.onload = done;
    image.onerror = () => (image.classList.add("missing"), done());
    image.src = `/media/${row}?size=${size}`;
  });

/** What is loaded next: a large picture, or the thumbnails at the head of a queue. */
function next(queue) {
  const wanted = [];
  while (queue.length && wanted.length < EACH) {
    const one = queue[0];
    if (one.size > SMALL && wanted.length) break;
    queue.shift();
    if (!one.image.isConnected) continue;
    if (one.size > SMALL) return large(one);
    wanted.push(one);
  }
  return wanted.length ? small(wanted) : null;
}

function pump() {
  planned = false;
  for (const queue of queues) {
    while (running < AT_ONCE && queue.length) {
      const loading = next(queue);
      if (!loading) continue;
      running += 1;
      loading.then(() => ((running -= 1), pump()));
    }
  }
}

/** The picture of a sample; `urgent` ones come before those of the list. One that left the page unseen is not asked for. */
export function thumbnail(row, size = SMALL, text = "", urgent = false) {
  const image = el("img", { alt: text, width: size, height: size, draggable: "false" });
  if (size <= SMALL && kept.has(row)) {
    image.src = kept.get(row);
    return image;
  }
  queues[urgent ? 0 : 1].push({ image, row, size });
  if (!planned) setTimeout(pump);
  planned = true;
  return image;
}
