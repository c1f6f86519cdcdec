// The rows of one run in the books of the server and of the gateway.

import { API_KEYS } from "./run.js";

/** How many keys the page asks for one by one. With more keys, the page reads the newest records and filters them. */
const KEYS_ONE_BY_ONE = 4;

/** The most rows on one page of a list. Lists are newest first, so the page has the rows of a run. */
const PAGE = 100;

async function get(path, account) {
  const headers = account ? { Authorization: `Bearer ${API_KEYS[account]}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store" });
  if (!answer.ok) throw new Error(`GET ${path} answers ${answer.status}`);
  return answer.json();
}

async function list(path, account) {
  return (await get(`${path}${path.includes("?") ? "&" : "?"}limit=${PAGE}`, account)).data;
}

async function records(run) {
  const keys = run.keys;
  if (keys.length <= KEYS_ONE_BY_ONE) {
    const lists = keys.map((key) => list(`/v1/idempotency-keys?key=${encodeURIComponent(key)}`, run.account));
    return (await Promise.all(lists)).flat();
  }
  return (await list("/v1/idempotency-keys", run.account)).filter((record) => keys.includes(record.key));
}

/** The values of a member in the bodies of the requests. */
function named(run, member) {
  const found = run.requests.map((request) => {
    try {
      return JSON.parse(request.body)?.[member];
    } catch {
      return null;
    }
  });
  return [...new Set(found.filter((value) => typeof value === "string"))];
}

/** Reads all books once. Throws if the server is away. */
export async function readLedger(run) {
  const customers = named(run, "customer");
  const [ownRecords, allOrders, allCharges, entitlements] = await Promise.all([
    records(run),
    list("/v1/orders", run.account),
    list("/v1/charges", run.account),
    Promise.all(customers.map((customer) => list(`/v1/entitlements?customer=${encodeURIComponent(customer)}`, run.account))),
  ]);
  const paid = named(run, "order_id");
  const orders = allOrders.filter((order) => customers.includes(order.customer) || paid.includes(order.id));
  const charges = allCharges.filter((charge) => orders.some((order) => order.id === charge.order_id));
  const captures = await Promise.all(charges.map((charge) => get(`/demo/gateway/captures?reference=${charge.reference}`)));
  return { at: run.now(), records: ownRecords, orders, charges, entitlements: entitlements.flat(), captures: captures.flat() };
}

/** Whether the server answers at all. */
export async function isServerThere() {
  try {
    return (await fetch("/health/live", { cache: "no-store" })).ok;
  } catch {
    return false;
  }
}
