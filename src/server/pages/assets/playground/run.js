// A run: the requests that are really sent, and their answers.

import { outcomeOf } from "./outcome.js";

export const API_KEYS = { acme: "sk_demo_acme", globex: "sk_demo_globex" };

/** The headers of an answer that the page shows. */
const HEADERS = ["Idempotency-Replayed", "Idempotency-Expires", "Location", "Retry-After", "Content-Length", "Content-Type", "X-Request-Id"];

/** Eight random characters. The names of customers and keys contain them, so that two runs differ. */
export const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Dispatches `change` whenever a request is sent or answered. */
export class Run extends EventTarget {
  constructor({ account = "acme", wants = null, purchase = false } = {}) {
    super();
    this.account = account;
    /** How many captures the client wants. Null if the scene does not say. */
    this.wants = wants;
    /** Whether all requests of a route belong to one purchase. Then a second fresh request is a repeat. */
    this.purchase = purchase;
    this.name = fresh();
    this.customer = `ada-${this.name}`;
    this.requests = [];
    this.history = [];
    this.started = performance.now();
    this.ended = null;
  }

  now() {
    return performance.now() - this.started;
  }

  end() {
    this.ended = this.now();
    this.dispatchEvent(new Event("change"));
  }

  get keys() {
    return [...new Set(this.requests.filter((request) => !request.aside).map((request) => request.key).filter(Boolean))];
  }

  /** Sends a request. `drop`: the browser drops the answer as soon as the answer begins. `aside`: a preparation. */
  async send({ lane, method = "POST", path, key = null, body = null, drop = false, aside = false }) {
    const request = {
      lane, method, path, key, aside, drop, account: this.account, sentAt: this.now(), answeredAt: null, status: null,
      headers: {}, text: null, lost: false, failure: null,
      body: body === null || typeof body === "string" ? body : JSON.stringify(body),
    };
    this.requests.push(request);
    this.dispatchEvent(new Event("change"));
    await exchange(request);
    request.answeredAt = this.now();
    request.outcome = outcomeOf(request);
    this.dispatchEvent(new Event("change"));
    return request;
  }
}

async function exchange(request) {
  const headers = { Authorization: `Bearer ${API_KEYS[request.account]}` };
  if (request.key !== null) headers["Idempotency-Key"] = request.key;
  if (request.body !== null) headers["Content-Type"] = "application/json";
  const browser = new AbortController();
  try {
    const answer = await fetch(request.path, {
      method: request.method, headers, body: request.body ?? undefined, signal: browser.signal, cache: "no-store",
    });
    request.status = answer.status;
    for (const name of HEADERS) if (answer.headers.has(name)) request.headers[name] = answer.headers.get(name);
    if (request.drop) {
      browser.abort();
      request.lost = true;
    } else {
      request.text = await answer.text();
    }
  } catch (error) {
    request.failure = error.message;
  }
}

/** The answer's JSON, or an empty object. */
export function json(request) {
  try {
    return JSON.parse(request.text) ?? {};
  } catch {
    return {};
  }
}

/** The request as a line for a shell. */
export function curl(request) {
  const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl -i ${request.method === "POST" ? "" : `-X ${request.method} `}${quote(location.origin + request.path)}`];
  parts.push(`-H ${quote(`Authorization: Bearer ${API_KEYS[request.account]}`)}`);
  if (request.key !== null) parts.push(`-H ${quote(`Idempotency-Key: ${request.key}`)}`);
  if (request.body !== null) parts.push(`-H 'Content-Type: application/json'`, `-d ${quote(request.body)}`);
  else if (request.method === "POST") parts[0] = `curl -i -X POST ${quote(location.origin + request.path)}`;
  return parts.join(" \\\n  ");
}
