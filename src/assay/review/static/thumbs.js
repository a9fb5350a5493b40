/** Pictures, a few at a time: a browser opens six connections to a server, and a decision shall never wait behind pictures. */
import { el } from "./dom.js";

const AT_ONCE = 3;

const seen = new Set(); // what the browser's cache has
const queues = [[], []]; // what is urgent, what is not
let running = 0;
let planned = false;

function load(image, source) {
  running += 1;
  const done = () => {
    image.onload = image.onerror = null;
    running -= 1;
    pump();
  };
  image.onload = () => (seen.add(source), done());
  image.onerror = () => (image.classList.add("missing"), done());
  image.src = source;
}

function pump() {
  planned = false;
  for (const queue of queues) {
    while (running < AT_ONCE && queue.length) {
      const [image, source] = queue.shift();
      if (image.isConnected) load(image, source);
    }
  }
}

/** The picture of a sample; `urgent` ones come before those of the list. One that left the page unseen is not asked for. */
export function thumbnail(row, size = 96, text = "", urgent = false) {
  const source = `/media/${row}?size=${size}`;
  const image = el("img", { alt: text, width: size, height: size, draggable: "false" });
  if (seen.has(source)) {
    image.src = source;
    return image;
  }
  queues[urgent ? 0 : 1].push([image, source]);
  if (!planned) setTimeout(pump);
  planned = true;
  return image;
}
