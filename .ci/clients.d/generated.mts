// Uses a client that openapi-typescript made, for the whole story: order, payment, decline, 202, 409, 422, pages, refund.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type Schemas = components["schemas"];
const api = createClient<paths>({ baseUrl: process.env.BASE, headers: { Authorization: "Bearer sk_demo_acme" } });
const header = (key: string) => ({ header: { "Idempotency-Key": key } });
const customer = `ada-${randomUUID()}`;
const order = (key: string, quantity = 1, sku = "pro-monthly") =>
  api.POST("/v1/orders", {
    params: header(key),
    body: { customer, items: [{ sku, quantity }], metadata: { number: "A-1001" } },
  });
const pay = (key: string, order_id: string, payment_method: string) =>
  api.POST("/v1/charges", { params: header(key), body: { order_id, payment_method } });

/** The problem of an answer that is not a success. The type checker knows the four values of `retry` and no other. */
function refusal(answer: { response: Response; error?: Schemas["Problem"] }, status: number, type: string) {
  const problem = answer.error!;
  const advice: "again" | "fix" | "new-key" | "never" = problem.retry;
  assert.deepEqual([answer.response.status, problem.type], [status, `/problems/${type}`]);
  assert.equal(answer.response.headers.get("Retry-Advice"), advice);
  return problem;
}

const key = randomUUID();
const first = await order(key);
const again = await order(key);
assert.equal(first.response.status, 201);
assert.deepEqual(first.data!.metadata, { number: "A-1001" });
assert.deepEqual(again.data, first.data);
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");

assert.equal(refusal(await order(key, 2), 422, "idempotency-key-reused").retry, "new-key");
const refused = refusal(await order(randomUUID(), 1000, "sticker"), 409, "out-of-stock");
assert.equal(refused.retry, "fix");
assert.equal(typeof refused.available, "number");
const wrong = refusal(await order(randomUUID(), 0, "a b"), 422, "invalid-request");
assert.deepEqual(wrong.errors!.map((error) => error.pointer), ["/items/0/sku", "/items/0/quantity"]);

const declined = refusal(await pay(randomUUID(), first.data!.id, "pm_card_visa_chargeDeclined"), 402, "card-declined");
assert.equal(declined.retry, "new-key");
const paid = await pay(randomUUID(), first.data!.id, "pm_card_visa");
assert.deepEqual([paid.response.status, paid.data!.status, paid.data!.processing], [201, "succeeded", null]);

const second = (await order(randomUUID())).data!;
const slow = randomUUID();
let answer = await pay(slow, second.id, "pm_card_lost_reply");
assert.equal(answer.response.status, 202);
// The two types of the answer can be told apart: only a processing one is sure to have `processing`.
const processing = answer.data as Schemas["ProcessingCharge"];
assert.ok(processing.status === "processing" && processing.processing.attempts >= 1);
for (const deadline = Date.now() + 60_000; answer.response.status === 202 && Date.now() < deadline; ) {
  await setTimeout(1000 * Number(answer.response.headers.get("Retry-After")));
  answer = await pay(slow, second.id, "pm_card_lost_reply");
}
assert.deepEqual([answer.response.status, answer.data!.status], [201, "succeeded"]);

const found: string[] = [];
for (let after: string | undefined, more = true; more; ) {
  const page = (await api.GET("/v1/orders", { params: { query: { customer, limit: 1, after } } })).data!;
  found.push(...page.data.map((one) => one.id));
  after = found.at(-1);
  more = page.has_more;
}
assert.deepEqual(found, [second.id, first.data!.id]);

const refund = (body: Schemas["NewRefund"]) =>
  api.POST("/v1/charges/{id}/refunds", { params: { path: { id: paid.data!.id }, ...header(randomUUID()) }, body });
const part = await refund({ amount: 900, metadata: { reason: "damaged" } });
assert.deepEqual([part.response.status, part.data!.amount, part.data!.metadata], [201, 900, { reason: "damaged" }]);
assert.equal((await refund({})).data!.amount, 4900 - 900);
const last = await api.GET("/v1/orders/{id}", { params: { path: { id: first.data!.id } } });
assert.equal(last.data!.status, "refunded");
console.log("openapi-typescript's client: order, payment, decline, 202, 409, 422, pages, refund");
