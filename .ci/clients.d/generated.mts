// Uses a client that openapi-typescript generated: an order, its replay, and a typed problem.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { paths } from "./api.d.ts";

const headers = { Authorization: "Bearer sk_demo_acme" };
const api = createClient<paths>({ baseUrl: process.env.BASE, headers });
const order = (key: string, sku: string, quantity: number) =>
  api.POST("/v1/orders", {
    params: { header: { "Idempotency-Key": key } },
    body: { customer: "ada", items: [{ sku, quantity }] },
  });

const key = randomUUID();
const first = await order(key, "pro-monthly", 1);
const again = await order(key, "pro-monthly", 1);
assert.equal(first.response.status, 201);
assert.deepEqual(again.data, first.data);
assert.equal(again.response.headers.get("Idempotency-Replayed"), "true");

const refused = await order(randomUUID(), "sticker", 1000);
const problem = refused.error!;
// The type checker knows the four values of `retry` and accepts no other value.
const advice: "again" | "fix" | "new-key" | "never" = problem.retry;
assert.deepEqual([problem.type, advice, problem.available], ["/problems/out-of-stock", "fix", 10]);
const charge = await api.POST("/v1/charges", {
  params: { header: { "Idempotency-Key": randomUUID() } },
  body: { order_id: first.data!.id, payment_method: "pm_card_visa_chargeDeclined" },
});
assert.equal(charge.error!.retry, "new-key");
console.log("generated TypeScript client: an order, its replay, and problems with their advice");
