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
  } catch (error) {
    if (error.name === "AbortError") throw error;
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

export const get = (path, parameters = {}, signal = undefined) => ask(address(path, parameters), { signal });

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", [session.header]: session.csrf },
    body: JSON.stringify(body),
  });

/** get() for what is shown of one thing at a time: a new request ends the one before it. Null where it was ended. */
export function latest() {
  let running = null;
  return async (path, parameters) => {
    running?.abort();
    const own = (running = new AbortController());
    try {
      const answer = await get(path, parameters, own.signal);
      return own.signal.aborted ? null : answer;
    } catch (error) {
      if (own.signal.aborted) return null;
      throw error;
    }
  };
}
