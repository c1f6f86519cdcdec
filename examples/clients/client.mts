// The client's half, in TypeScript without libraries: store the key, send the request, and do what `retry` says.
//
//     BASE=http://127.0.0.1:8080 npx tsx examples/clients/client.mts

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createHash, randomUUID } from "node:crypto";

const BASE = process.env.BASE ?? "http://127.0.0.1:8080";
const KEYS = process.env.KEYS ?? "keys"; // this folder survives a crash of this process, like your database
const GIVE_UP_AFTER = 60_000; // milliseconds; after this time, a person or a later job sends the request again with the same key

type Answer = { status: number; body: any; wait: number };

/** Carries out one decision once. `decision` is your name for it, for example "pay order 7". A new decision needs a new name. */
async function post(decision: string, path: string, body: unknown): Promise<Answer> {
  mkdirSync(KEYS, { recursive: true });
  const note = `${KEYS}/${createHash("sha256").update(decision).digest("hex")}`;
  if (!existsSync(note)) writeFileSync(note, randomUUID()); // before the first sending, so that a restarted process finds the key
  const key = readFileSync(note, "utf8");
  const deadline = Date.now() + GIVE_UP_AFTER;
  for (let pause = 200; ; pause = Math.min(pause * 2, 5000)) {
    const answer = await send(path, body, key);
    // No answer, a 202, or a problem with `retry: again`: send the same request with the same key.
    const again = answer.status === 0 || answer.status === 202 || answer.body.retry === "again";
    if (!again) return answer; // a success, or a problem whose `retry` is fix, new-key or never: the caller decides what to do
    if (Date.now() > deadline) throw new Error(`${decision}: outcome unknown; send it again later with the same key`);
    await new Promise((done) => setTimeout(done, answer.wait * 1000 || pause));
  }
}

async function send(path: string, body: unknown, key: string): Promise<Answer> {
  const headers = { Authorization: "Bearer sk_demo_acme", "Content-Type": "application/json", "Idempotency-Key": key };
  try {
    const signal = AbortSignal.timeout(15_000);
    const response = await fetch(BASE + path, { method: "POST", headers, body: JSON.stringify(body), signal });
    const text = await response.text();
    const json = text.startsWith("{") ? JSON.parse(text) : { retry: "again" }; // not JSON: from a proxy, not from the API
    return { status: response.status, body: json, wait: Number(response.headers.get("Retry-After") ?? 0) };
  } catch {
    return { status: 0, body: {}, wait: 0 }; // the request or its answer was lost: the client can't know whether it took effect
  }
}

const run = process.argv[2] ?? randomUUID().slice(0, 8);
const order = (name: string, sku: string, quantity: number) =>
  post(`${run} order ${name}`, "/v1/orders", { customer: `ts-${run}`, items: [{ sku, quantity }] });
const pay = (name: string, order_id: string, payment_method: string) =>
  post(`${run} pay ${name}`, "/v1/charges", { order_id, payment_method });

const made = await order("a", "pro-monthly", 1);
console.log("order", made.status, made.body.status);
const charge = await pay("a", made.body.id, "pm_card_lost_reply");
console.log("lost reply", charge.status, charge.body.status);
const second = await order("b", "pro-monthly", 1);
const declined = await pay("b", second.body.id, "pm_card_visa_chargeDeclined");
console.log("declined", declined.status, declined.body.type, declined.body.retry);
const another = await pay("b with another card", second.body.id, "pm_card_visa"); // a new decision needs a new key
console.log("another card", another.status, another.body.status);
const refused = await order("c", "sticker", 10000);
console.log("out of stock", refused.status, refused.body.type, refused.body.retry);
