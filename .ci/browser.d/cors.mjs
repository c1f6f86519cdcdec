// Checks CORS: a page of an allowed origin uses the API, a page of another origin reads nothing.

import assert from "node:assert/strict";
import http from "node:http";
import { chromium } from "playwright-core";

// An empty page from another server, so the page has another origin than the API.
const page = http.createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end("<!doctype html><title>Shop</title>"));
await new Promise((listening) => page.listen(0, "0.0.0.0", listening));
const port = page.address().port;

const script = async (base) => {
  const order = (key, sku) =>
    fetch(`${base}/v1/orders`, {
      method: "POST",
      headers: { Authorization: "Bearer sk_demo_acme", "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ customer: "ada", items: [{ sku, quantity: 1 }] }),
    });
  try {
    const key = crypto.randomUUID?.() ?? String(Math.random());
    const [first, again, wrong] = [await order(key, "pro-monthly"), await order(key, "pro-monthly"), await order(key, "sticker")];
    const unknown = await order(`${key}-2`, "unheard-of");
    const product = await fetch(`${base}/v1/products/sticker`, { headers: { Authorization: "Bearer sk_demo_acme" } });
    return {
      statuses: [first.status, again.status, wrong.status, unknown.status],
      same: (await first.json()).id === (await again.json()).id,
      replayed: [first.headers.get("Idempotency-Replayed"), again.headers.get("Idempotency-Replayed")],
      readable: ["Idempotency-Expires", "Location", "X-Request-Id"].map((name) => again.headers.get(name) !== null),
      etag: product.headers.get("ETag") !== null,
      retry: [(await wrong.json()).retry, (await unknown.json()).retry],
    };
  } catch (error) {
    return String(error);
  }
};

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const run = async (origin) => {
  const tab = await browser.newPage();
  await tab.goto(origin);
  return tab.evaluate(script, process.argv[2]);
};
assert.deepEqual(await run(`http://localhost:${port}`), {
  statuses: [201, 201, 422, 422],
  same: true,
  replayed: [null, "true"],
  readable: [true, true, true],
  etag: true,
  retry: ["new-key", "fix"],
});
assert.match(await run(`http://127.0.0.2:${port}`), /Failed to fetch/);
await browser.close();
page.close();
console.log("a page of an allowed origin makes one order and reads the replay marker and retry; a page of another origin reads nothing");
