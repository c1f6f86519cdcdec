// The six scenes. Each scene has a text, a promise, and the requests that it sends.

import { fresh, json, pause } from "./run.js";

/** The time between two clicks of an impatient person, in ms. Some answers take longer, so clicks overlap. */
const BETWEEN_CLICKS = 60;

/** How often a client asks again after a 202. The resolver needs one or two leases. Each round waits for Retry-After. */
const MOST_RETRIES = 30;

const order = (customer, sku = "pro-monthly") => ({ customer, items: [{ sku, quantity: 1 }] });
const captured = (ledger) => ledger.captures.filter((line) => line.outcome === "succeeded").length;
const of = (run, lane) => run.requests.filter((request) => request.lane === lane);

async function tenClicks(run, keyOf) {
  const clicks = Array.from({ length: 10 }, async (_, click) => {
    await pause(click * BETWEEN_CLICKS);
    const lane = `click ${click + 1}`;
    const made = await run.send({ lane, path: "/v1/orders", key: `${keyOf(click)}-order`, body: order(run.customer) });
    if (!json(made).id) return;
    const body = { order_id: json(made).id, payment_method: "pm_card_visa" };
    await run.send({ lane, path: "/v1/charges", key: `${keyOf(click)}-pay`, body });
  });
  await Promise.all(clicks);
}

const clicksPreview = (outcome) => Array.from({ length: 10 }, (_, click) => {
  const from = click * BETWEEN_CLICKS;
  const drawn = click === 0 ? "fresh" : outcome;
  return { label: `click ${click + 1}`, bars: [{ from, to: from + 22, outcome: drawn }, { from: from + 26, to: from + 78, outcome: drawn, status: 201 }] };
});

async function prepareOrder(run) {
  const made = await run.send({ lane: "order", path: "/v1/orders", key: `prepare-${run.name}`, body: order(run.customer), aside: true });
  return json(made).id;
}

async function lostAnswer(run) {
  const body = { order_id: await prepareOrder(run), payment_method: "pm_card_visa" };
  const pay = (lane, drop) => run.send({ lane, path: "/v1/charges", key: `pay-${run.name}`, body, drop });
  await pay("pay", true);
  await pause(250);
  await pay("pay again", false);
  await pause(250);
  await pay("and again", false);
}

function sameBytes(run) {
  const [once, twice] = [of(run, "pay again")[0], of(run, "and again")[0]];
  if (!once?.text || once.text !== twice?.text) return "";
  return `Both retries got the same ${new TextEncoder().encode(once.text).length} bytes.`;
}

async function lostGatewayAnswer(run) {
  const body = { order_id: await prepareOrder(run), payment_method: "pm_card_lost_reply" };
  const pay = (lane) => run.send({ lane, path: "/v1/charges", key: `pay-${run.name}`, body });
  let answer = await pay("pay");
  for (let retry = 1; answer.status === 202 && retry <= MOST_RETRIES; retry += 1) {
    await pause(1000 * Number(answer.headers["Retry-After"] ?? 1));
    answer = await pay(`retry ${retry}`);
  }
}

async function failures(run) {
  const mug = `/v1/products/mug-${tab()}`;
  const aside = (method, path, body, key = null) => run.send({ lane: "prepare", method, path, key, body, aside: true });
  const catalogue = json(await aside("GET", "/v1/products?limit=100", null)).data ?? [];
  const reserved = catalogue.find((product) => product.sku === `mug-${tab()}`)?.reserved ?? 0;
  const stock = (number) => ({ name: "Mug", unit_amount: 1200, currency: "EUR", stock: reserved + number });
  await aside("PUT", mug, stock(0));
  const made = await aside("POST", "/v1/orders", order(run.customer), `prepare-${run.name}`);
  await aside("POST", `/v1/orders/${json(made).id}/cancel`, null, `cancel-${run.name}`);

  const buy = (lane) => run.send({ lane, path: "/v1/orders", key: `mug-${run.name}`, body: order(run.customer, `mug-${tab()}`) });
  const pay = (lane) => run.send({ lane, path: "/v1/charges", key: `pay-${run.name}`, body: { order_id: json(made).id, payment_method: "pm_card_visa" } });
  await buy("order a mug");
  await pay("pay canceled");
  await pause(300);
  await run.send({ lane: "restock", method: "PUT", path: mug, body: stock(1), aside: true });
  await pause(300);
  await buy("order again");
  await pay("pay again");
}

/** Each tab has its own mug, so that one playground does not restock the mug of another. */
function tab() {
  const name = sessionStorage.getItem("playground-tab") ?? fresh();
  sessionStorage.setItem("playground-tab", name);
  return name;
}

async function anotherRequest(run) {
  const make = (lane, sku) => run.send({ lane, path: "/v1/orders", key: `order-${run.name}`, body: order(run.customer, sku) });
  const id = json(await make("order Pro", "pro-monthly")).id;
  run.before = await run.look();
  await pause(150);
  await make("order credits", "credits-1000");
  run.after = await run.look();
  await pause(150);
  const pay = (name) => run.send({ lane: `pay, key ${name}`, path: "/v1/charges", key: `${name}-${run.name}`, body: { order_id: id, payment_method: "pm_card_visa" } });
  await Promise.all([pay("A"), pay("B")]);
}

function unchanged(run) {
  const books = ({ records, orders }) => JSON.stringify([records, orders]);
  return run.before && run.after && books(run.before) === books(run.after) ? "The 422 changed nothing." : "";
}

const bar = (label, from, to, outcome, status) => ({ label, bars: [{ from, to, outcome, status }] });
const statuses = (run, ...lanes) => lanes.map((lane) => of(run, lane).at(-1)?.status).join();

export const SCENES = [
  {
    id: "without-keys", title: "Without keys", wants: 1, purchase: true,
    says: "A person clicks Pay ten times. A careless client makes a new key for each click.",
    see: "ten orders and ten charges: EUR 49.00 is taken ten times.",
    play: (run) => tenClicks(run, (click) => `click-${click + 1}-${run.name}`),
    promise: (run, ledger) => ledger.orders.length === 10 && ledger.charges.length === 10 && captured(ledger) === 10,
    preview: clicksPreview("again"), shows: [["g1", "what a key is for"]], file: "src/shop/orders/mod.rs",
  },
  {
    id: "one-key", title: "With one key", wants: 1, purchase: true,
    says: "The same ten clicks. The client keeps one key for the purchase.",
    see: "one order, one charge, nine replays: EUR 49.00 is taken once.",
    play: (run) => tenClicks(run, () => `purchase-${run.name}`),
    promise: (run, ledger) => ledger.orders.length === 1 && ledger.charges.length === 1 && captured(ledger) === 1,
    preview: clicksPreview("replayed"), shows: [["g1", "at most once"], ["g8", "how duplicates wait"]], file: "crates/idempotency/src/lib.rs",
  },
  {
    id: "lost-answer", title: "The answer is lost", wants: 1,
    says: "The server takes the payment. The browser drops the answer, and sends the request again.",
    see: "the first reply again, byte for byte, and one charge.",
    play: lostAnswer, adds: sameBytes,
    promise: (run, ledger) => captured(ledger) === 1 && sameBytes(run) !== "" && statuses(run, "pay again", "and again") === "201,201",
    preview: [bar("order", 0, 30, "aside"), bar("pay", 30, 110, "lost"), bar("pay again", 360, 375, "replayed", 201), bar("and again", 625, 640, "replayed", 201)],
    shows: [["g3", "the first reply again"]], file: "crates/idempotency/src/reply.rs",
  },
  {
    id: "lost-gateway-answer", title: "The gateway’s answer is lost", wants: 1,
    says: "The gateway takes the money. The gateway’s answer never arrives.",
    see: "202 and a provisional record, then the resolver asks the gateway, then 201 and one capture. This takes some ten seconds.",
    play: lostGatewayAnswer,
    promise: (run, ledger) => run.requests.some((request) => request.status === 202) && run.requests.at(-1).status === 201 && captured(ledger) === 1,
    preview: [bar("order", 0, 60, "aside"), bar("pay", 60, 4100, "flight", 202), bar("retry 1", 5100, 5200, "flight", 202), bar("retry 2", 6200, 6300, "flight", 202), bar("retry 3", 7300, 7400, "replayed", 201)],
    shows: [["g5", "no charge lost"]], file: "crates/external-calls/src/lib.rs",
  },
  {
    id: "failures", title: "Failures", wants: 0,
    says: "A mug is out of stock, and an order can’t be paid. The shop restocks. The client sends both requests again.",
    see: "the order runs again and succeeds (success-only); the payment replays its 409 until Idempotency-Expires (cache-failures).",
    // The details of this lane have the countdown to Idempotency-Expires.
    play: failures, opens: "pay again",
    adds: (run) => (statuses(run, "order again", "pay again") === "201,409" ? "Under success-only the retry ran, under cache-failures the 409 was replayed." : ""),
    promise: (run, ledger) => statuses(run, "order a mug", "pay canceled", "order again", "pay again") === "409,409,201,409" && captured(ledger) === 0
      && of(run, "pay again")[0].outcome === "replayed" && of(run, "order again")[0].outcome === "fresh",
    preview: [bar("prepare", 0, 70, "aside"), bar("order a mug", 80, 100, "refused", 409), bar("pay canceled", 105, 130, "refused", 409), bar("restock", 430, 450, "aside", 200), bar("order again", 750, 775, "fresh", 201), bar("pay again", 780, 795, "replayed", 409)],
    shows: [["failures", "the two policies"]], file: "crates/idempotency/src/policy.rs",
  },
  {
    id: "another-request", title: "Another request", wants: 1,
    says: "The client sends another order under a used key. Then the client pays one order with two keys.",
    see: "422, and nothing changed; then one 201 and one 409.",
    play: anotherRequest, adds: unchanged,
    promise: (run, ledger) => statuses(run, "order Pro", "order credits") === "201,422" && unchanged(run) !== "" && captured(ledger) === 1
      && ["201,409", "409,201"].includes(statuses(run, "pay, key A", "pay, key B")),
    preview: [bar("order Pro", 0, 25, "fresh", 201), bar("order credits", 230, 240, "refused", 422), bar("pay, key A", 440, 500, "fresh", 201), bar("pay, key B", 440, 460, "refused", 409)],
    shows: [["g4", "another request"], ["g6", "two keys, one order"]], file: "crates/idempotency/src/fingerprint.rs",
  },
];

export const FREE_PLAY = {
  id: "free-play", title: "Free play", wants: null, says: "Your own request. The page sends copies with a pause between, and drops some answers.",
  see: "the real answers of this server.", preview: [], shows: [["g1", "all guarantees"]], file: "crates/idempotency/src/lib.rs",
};
