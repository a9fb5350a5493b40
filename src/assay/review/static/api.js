/** The server's answers. An error has its `status`, 0 where no server answered, and the server's own sentence. */
import { session } from "./session.js";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch {
    throw new Refused(0, "No answer from the server.");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    if (response.ok) throw new Refused(0, "The server's answer was cut short.");
  }
  if (!response.ok) throw new Refused(response.status, answer?.error ?? `The server answered ${response.status}.`);
  return answer;
}

/** Parameters that are null, undefined or empty are left out. */
export function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

export const get = (path, parameters = {}) => ask(address(path, parameters), {});

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", [session.header]: session.csrf },
    body: JSON.stringify(body),
  });

/** get() for what is shown of one thing at a time: one request runs, the newest of those asked meanwhile comes next, the
 *  others answer null. Nothing is aborted: a server goes on with what it was asked, and would have ever more to do. */
export function latest() {
  let running = false;
  let next = null;

  async function run() {
    running = true;
    while (next) {
      const now = next;
      next = null;
      try {
        const answer = await get(now.path, now.parameters);
        now.answer(next ? null : answer);
      } catch (error) {
        if (next) now.answer(null);
        else now.refuse(error);
      }
    }
    running = false;
  }

  return (path, parameters) =>
    new Promise((answer, refuse) => {
      next?.answer(null);
      next = { path, parameters, answer, refuse };
      if (!running) run();
    });
}
