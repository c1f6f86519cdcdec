// The client's half, in TypeScript without libraries: write the key down, send, and do what `retry` says.
//
//     BASE=http://127.0.0.1:8080 npx tsx examples/clients/client.mts

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createHash, randomUUID } from "node:crypto";

const BASE = process.env.BASE ?? "http://127.0.0.1:8080";
const KEYS = process.env.KEYS ?? "keys"; // survives a crash of this process, as your database does
const GIVE_UP_AFTER = 60_000; // milliseconds; then a person, or a job later, sends the same again under the same key

type Answer = { status: number; body: any; wait: number };

/** Does one decision once. `decision` is your name for it, such as "pay order 7"; a new decision needs a new name. */
async function post(decision: string, path: string, body: unknown): Promise<Answer> {
  mkdirSync(KEYS, { recursive: true });
  const note = `${KEYS}/${createHash("sha256").update(decision).digest("hex")}`;
  if (!existsSync(note)) writeFileSync(note, randomUUID()); // before the first sending, for a restarted process
  const key = readFileSync(note, "utf8");
  const deadline = Date.now() + GIVE_UP_AFTER;
  for (let pause = 200; ; pause = Math.min(pause * 2, 5000)) {
    const answer = await send(path, body, key);
    // No answer at all, a 202, and `retry: again`: the same request, under the same key.
    const again = answer.status === 0 || answer.status === 202 || answer.body.retry === "again";
    if (!again) return answer; // a success, or a problem whose `retry` is fix, new-key or never: decide anew
    if (Date.now() > deadline) throw new Error(`${decision}: not known yet; send it again later, under the same key`);
    await new Promise((done) => setTimeout(done, answer.wait * 1000 || pause));
  }
}

async function send(path: string, body: unknown, key: string): Promise<Answer> {
  const headers = { Authorization: "Bearer sk_demo_acme", "Content-Type": "application/json", "Idempotency-Key": key };
  try {
    const signal = AbortSignal.timeout(15_000);
    const response = await fetch(BASE + path, { method: "POST", headers, body: JSON.stringify(body), signal });
    const text = await response.text();
    const json = text.startsWith("{") ? JSON.parse(text) : { retry: "again" }; // a proxy's page, not ours
    return { status: response.status, body: json, wait: Number(response.headers.get("Retry-After") ?? 0) };
  } catch {
    return { status: 0, body: {}, wait: 0 }; // lost on the way there or back: whether it took effect is not known
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
const declined = await pay("b", second.body.id, "pm_card_declined");
console.log("declined", declined.status, declined.body.type, declined.body.retry);
const another = await pay("b with another card", second.body.id, "pm_card_visa"); // a new decision, so a new key
console.log("another card", another.status, another.body.status);
const refused = await order("c", "sticker", 10000);
console.log("out of stock", refused.status, refused.body.type, refused.body.retry);
