/** Pictures. Those of the list come many in one answer, since a request costs more than a thumbnail; and two answers at a
 *  time, one of them for what is urgent: a browser opens six connections to a server, and a decision shall never wait behind
 *  pictures. */
import { get } from "./api.js";
import { el } from "./dom.js";

const SMALL = 96; // pixels a side, at most
const EACH = 40; // thumbnails that are asked for together, at most; the server answers with as many as it has time for
const KEPT = 2000; // thumbnails that the page holds on to, of some 20 KiB

const kept = new Map(); // thumbnails as addresses by row, the oldest first
const seen = new Set(); // large pictures that the browser's cache has
const queues = [[], []]; // what is urgent, what is not
const busy = [false, false];
let planned = false;

function keep(row, address) {
  kept.set(row, address);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

function show(image, address) {
  if (address) image.src = address;
  else image.classList.add("missing");
}

/** What the answer left out goes back to the head of its queue. */
async function small(wanted, queue) {
  let found = null;
  try {
    const rows = [...new Set(wanted.map(({ row }) => row))];
    found = (await get("/api/pictures", { rows: rows.join(",") })).pictures;
  } catch {
    // what there is no picture of says so itself
  }
  const left = [];
  for (const one of wanted) {
    if (found && !(one.row in found)) left.push(one);
    else if (found?.[one.row]) keep(one.row, found[one.row]), show(one.image, found[one.row]);
    else show(one.image, null);
  }
  queue.unshift(...left);
}

const large = ({ image, row, size }) =>
  new Promise((done) => {
    const source = `/media/${row}?size=${size}`;
    image.onload = () => (seen.add(source), done());
    image.onerror = () => (image.classList.add("missing"), done());
    image.src = source;
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
    if (kept.has(one.row)) show(one.image, kept.get(one.row));
    else wanted.push(one);
  }
  return wanted.length ? small(wanted, queue) : null;
}

/** Each queue loads one thing at a time; the second rests while the first has thumbnails or a picture to come. */
function pump() {
  planned = false;
  for (const [at, queue] of queues.entries()) {
    while (!busy[at] && queue.length && !(at && queues[0].length)) {
      const loading = next(queue);
      if (!loading) continue;
      busy[at] = true;
      loading.finally(() => ((busy[at] = false), pump()));
    }
  }
}

/** The picture of a sample; `urgent` ones come before those of the list. One that left the page unseen is not asked for. */
export function thumbnail(row, size = SMALL, text = "", urgent = false) {
  const image = el("img", { alt: text, width: size, height: size, draggable: "false" });
  const source = size > SMALL ? `/media/${row}?size=${size}` : kept.get(row);
  if (size > SMALL ? seen.has(source) : source) {
    image.src = source;
    return image;
  }
  queues[urgent ? 0 : 1].push({ image, row, size });
  if (!planned) setTimeout(pump);
  planned = true;
  return image;
}
