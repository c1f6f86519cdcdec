// Checks the other pages: problems, policies, sources, and the API documentation.

import { accessible, check, equal, open } from "./browser.mjs";

const TEXTS = ["/unheard-of", "/problems", "/problems/card-declined", "/problems/unheard-of", "/policies", "/source/crates/idempotency/src/lib.rs"];

export async function texts(browser, base, look) {
  const isMissing = (message) => message.location().url.endsWith("/unheard-of");
  const { page, context, name } = await open(browser, base, look, isMissing);
  for (const path of TEXTS) {
    const answer = await page.goto(base + path);
    equal(answer.status(), path.endsWith("unheard-of") ? 404 : 200, `${name}, ${path}: status`);
    equal(await page.locator("header.top nav a").allTextContents(), ["Break it", "API docs", "Problems", "Policies"], `${name}, ${path}: the header`);
    equal(await page.locator("h1").count(), 1, `${name}, ${path}: one heading`);
    await accessible(page, `${name}, ${path}`);
  }
  await context.close();
}

const operation = (page, id) => page.locator(`#operations-${id}`);

async function tryOut(page, id) {
  await operation(page, id).locator(".opblock-summary-control").click();
  await operation(page, id).locator(".try-out__btn").click();
}

const keyOf = (page, id) => operation(page, id).locator('tr[data-param-name="Idempotency-Key"] input').inputValue();

export async function docs(browser, base, look) {
  const { page, context, name } = await open(browser, base, look);
  await page.goto(`${base}/docs/`);
  await page.click(".btn.authorize");
  await page.fill(".auth-container input", "sk_demo_acme");
  await page.click(".auth-container .btn.authorize");
  await page.click(".btn-done");
  await page.reload();
  await page.locator(".auth-wrapper .authorize.locked").waitFor();
  await page.locator(".auth-wrapper .authorize.locked svg").waitFor();

  await tryOut(page, "Orders-createOrder");
  await tryOut(page, "Charges-createCharge");
  const first = await keyOf(page, "Orders-createOrder");
  const key = await keyOf(page, "Charges-createCharge");
  check(first !== key && key.length === 36, `${name}, /docs: every operation has its own key (${first}, ${key})`);
  const charge = operation(page, "Charges-createCharge");
  await charge.getByRole("button", { name: "New key" }).click();
  check((await keyOf(page, "Charges-createCharge")) !== key, `${name}, /docs: a new key on demand`);
  await charge.getByRole("button", { name: "Make a new order" }).click();
  await charge.getByText("waits for its payment").waitFor();
  await accessible(page, `${name}, /docs`);
  await charge.locator(".execute").click();
  const status = charge.locator(".live-responses-table .response-col_status").last();
  await status.waitFor();
  check((await status.textContent()).startsWith("201"), `${name}, /docs: the example charge pays an order that exists`);
  await context.close();
}
