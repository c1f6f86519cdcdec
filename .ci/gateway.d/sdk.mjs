// Stripe's library for Node against the sandbox: `node sdk.mjs URL VERSION MAIL`.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import Stripe from "stripe";

const [, , url, version, mail] = process.argv;
const { hostname: host, port } = new URL(url);
const stripe = (more = {}) => new Stripe("sk_test_ci", { host, port, protocol: "http", maxNetworkRetries: 0, telemetry: false, ...more });
const once = stripe();
assert.equal(Stripe.API_VERSION ?? once.getApiField?.("version") ?? once._api.version, version, "the program speaks the version that this library pins");

const payment = (payment_method, more = {}) => ({
  amount: 500, currency: "eur", payment_method, confirm: true, error_on_requires_action: true,
  payment_method_types: ["card"], metadata: { reference: randomUUID() }, ...more,
});

// Create, read, and a retry under one idempotency key.
const idempotencyKey = randomUUID();
const body = payment("pm_card_visa");
const paid = await once.paymentIntents.create(body, { idempotencyKey });
assert.deepEqual([paid.object, paid.status, paid.amount_received, paid.metadata.reference], ["payment_intent", "succeeded", 500, body.metadata.reference]);
assert.equal((await once.paymentIntents.retrieve(paid.id)).id, paid.id);
const again = await once.paymentIntents.create(body, { idempotencyKey });
assert.deepEqual([again.id, again.lastResponse.headers["idempotent-replayed"]], [paid.id, "true"]);

// A changed parameter under the key.
await assert.rejects(once.paymentIntents.create({ ...body, amount: 501 }, { idempotencyKey }), (error) => {
  assert.ok(error instanceof Stripe.errors.StripeIdempotencyError, error);
  return error.statusCode === 400;
});

// Declines, and 3-D Secure.
for (const [card, code, decline] of [
  ["pm_card_visa_chargeDeclined", "card_declined", "generic_decline"],
  ["pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"],
  ["pm_card_chargeDeclinedExpiredCard", "expired_card", undefined],
  ["pm_card_threeDSecure2Required", "authentication_required", "authentication_required"],
]) {
  await assert.rejects(once.paymentIntents.create(payment(card)), (error) => {
    assert.ok(error instanceof Stripe.errors.StripeCardError, error);
    assert.deepEqual([error.statusCode, error.code, error.decline_code || undefined, error.payment_intent.status], [402, code, decline, "requires_payment_method"]);
    return true;
  });
}
await assert.rejects(once.paymentIntents.create(payment("pm_card_none")), (error) =>
  error instanceof Stripe.errors.StripeInvalidRequestError && error.code === "resource_missing" && error.param === "payment_method");
await assert.rejects(new Stripe("sk_live_ci", { host, port, protocol: "http", maxNetworkRetries: 0 }).paymentIntents.list(), (error) =>
  error instanceof Stripe.errors.StripeAuthenticationError);

// Refunds, and lists with the library's own paging.
const parts = [];
for (let part = 0; part < 5; part++) parts.unshift((await once.refunds.create({ payment_intent: paid.id, amount: 100 })).id);
await assert.rejects(once.refunds.create({ payment_intent: paid.id, amount: 1 }), (error) => error.code === "charge_already_refunded");
const listed = [];
for await (const refund of once.refunds.list({ payment_intent: paid.id, limit: 2 })) listed.push(refund.id);
assert.deepEqual(listed, parts);
const since = await once.paymentIntents.list({ created: { gte: paid.created, lte: paid.created + 60 }, limit: 100 }).autoPagingToArray({ limit: 1000 });
assert.ok(since.some((intent) => intent.id === paid.id));

// The library's own retries: through a lost reply, and through errors that are not stored. The money moves once.
for (const card of ["pm_card_lost_reply", "pm_card_gateway_error"]) {
  const patient = stripe({ maxNetworkRetries: 3, timeout: 1500 });
  const lost = payment(card);
  const intent = await patient.paymentIntents.create(lost);
  const made = await once.paymentIntents.list({ created: { gte: intent.created - 60 }, limit: 100 }).autoPagingToArray({ limit: 1000 });
  assert.equal(made.filter((other) => other.metadata.reference === lost.metadata.reference).length, 1, card);
}
// A stored error is not retried: the library heeds Stripe-Should-Retry.
await assert.rejects(stripe({ maxNetworkRetries: 3 }).paymentIntents.create(payment("pm_card_sticky_error")), (error) =>
  error.statusCode === 500 && error.headers["stripe-should-retry"] === "false");

// Events, checked by the library.
const events = () => readFileSync(mail, { encoding: "utf8", flag: "a+" }).split("\n").filter(Boolean).map((line) => JSON.parse(line));
for (let tries = 0; !events().some(({ body }) => body.includes(paid.id)); tries++) {
  assert.ok(tries < 100, "no event came");
  await new Promise((wake) => setTimeout(wake, 100));
}
const kinds = new Set();
for (const { signature, body: text } of events()) {
  kinds.add(once.webhooks.constructEvent(text, signature, "whsec_ci").type);
  assert.throws(() => once.webhooks.constructEvent(`${text} `, signature, "whsec_ci"), Stripe.errors.StripeSignatureVerificationError);
}
assert.ok(kinds.has("payment_intent.succeeded") && kinds.has("payment_intent.payment_failed") && kinds.has("refund.created"), [...kinds]);
console.log(`npm's stripe speaks ${version} with the sandbox; ${events().length} events are signed right`);
