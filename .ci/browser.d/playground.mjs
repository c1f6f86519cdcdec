// Uses the playground by keyboard, and compares what the page says with the API and the gateway's books.

import { accessible, check, equal, isRefusal, open } from "./browser.mjs";

/** The longest scene waits for the resolver: 4 s for the lost call, 2 s of backoff, and its retries. */
const LONGEST = 40_000;

const TAKEN = "EUR 49.00 taken";

/** The sentence of each scene, and the rows that the scene leaves: [records, orders, charges, entitlements, captures]. */
const SCENES = [
  { title: "Without keys", says: /^10 clicks: 10 fresh\. 10 orders, 10 charges, EUR 49\.00 taken 10 times\.$/, rows: [20, 10, 10, 10, 10], state: "bad", lanes: 10 },
  { title: "With one key", says: /^10 clicks: 1 fresh, 9 replayed\. 1 order, 1 charge, EUR 49\.00 taken once\.$/, rows: [2, 1, 1, 1, 1], state: "good", lanes: 10 },
  { title: "The answer is lost", says: /^3 requests: 2 replayed, 1 lost\. 1 order, 1 charge, EUR 49\.00 taken once\. Both retries got the same \d+ bytes\.$/, rows: [1, 1, 1, 1, 1], state: "good", lanes: 4 },
  { title: "The gateway’s answer is lost", says: /^\d+ requests: 1 replayed, \d+ in flight\. 1 order, 1 charge, EUR 49\.00 taken once\.$/, rows: [1, 1, 1, 1, 1], state: "good", lanes: null },
  { title: "Failures", says: /^4 requests: 1 fresh, 1 replayed, 2 refused\. 2 orders, 0 charges, nothing taken\. Under success-only the retry ran, under cache-failures the 409 was replayed\.$/, rows: [2, 2, 0, 0, 0], state: "good", lanes: 6 },
  { title: "Another request", says: /^4 requests: 2 fresh, 2 refused\. 1 order, 1 charge, EUR 49\.00 taken once\. The 422 changed nothing\.$/, rows: [null, 1, 1, 1, 1], state: "good", lanes: 4 },
];

/** Waits until the run has ended. */
const ended = (page) =>
  page.waitForFunction(() => document.getElementById("verdict").dataset.state !== "busy" && document.getElementById("run-label").textContent === "Run again", null, { timeout: LONGEST });

async function api(base, path, account = "acme") {
  const answer = await fetch(base + path, { headers: { Authorization: `Bearer sk_demo_${account}` } });
  if (!answer.ok) throw new Error(`GET ${path} answers ${answer.status}`);
  return answer.json();
}

/** The numbers of orders, charges and captures of the page's customers, from the API and from the gateway's books. */
async function books(base, sent) {
  const customers = [...new Set(sent.map((body) => body?.customer).filter(Boolean))];
  const all = async (path) => (await api(base, `${path}?limit=100`)).data;
  const orders = (await all("/v1/orders")).filter((order) => customers.includes(order.customer));
  const charges = (await all("/v1/charges")).filter((charge) => orders.some((order) => order.id === charge.order_id));
  const lines = await Promise.all(charges.map((charge) => api(base, `/demo/gateway/captures?reference=${charge.reference}`)));
  const captures = lines.flat().filter((line) => line.outcome === "succeeded");
  return [orders.length, charges.length, captures.length];
}

const shownRows = (page) => page.$$eval(".panel .count", (counts) => counts.map((count) => Number(count.textContent)));

export async function playground(browser, base, look) {
  const { page, context, name, sent } = await open(browser, base, look, isRefusal);
  await page.goto(`${base}/`);
  for (const [index, scene] of SCENES.entries()) {
    const claim = `${name}, ${scene.title}`;
    if (index > 0) await page.keyboard.press("n");
    equal(await page.textContent("#scene-title"), scene.title, `${claim}: N shows the next scene`);
    check((await page.locator("time-axis .ghost .bar").count()) > 0, `${claim}: before the run, the page draws the expected bars`);
    for (const again of index === 1 ? [false, true] : [false]) {
      sent.length = 0;
      await page.keyboard.press("r");
      await ended(page);
      await seen(page, base, scene, sent, again ? `${claim}, again` : claim);
    }
    await lanes(page, scene, claim);
    await replay(page, scene, claim);
    await accessible(page, claim);
    await page.locator("#scene-title").focus();
  }
  await page.keyboard.press("b");
  equal(await page.textContent("#scene-title"), SCENES.at(-2).title, `${name}: B shows the scene before`);
  await page.locator("#keys").press("Space");
  await page.locator("#scene-title").focus();
  await page.keyboard.press("n");
  equal(await page.textContent("#scene-title"), SCENES.at(-2).title, `${name}: single keys can be switched off`);
  await context.close();
}

/** Compares the sentence, the counts and the announcement with the API. */
async function seen(page, base, scene, sent, claim) {
  const says = await page.textContent("#sentence");
  check(scene.says.test(says), `${claim}: the sentence is as expected (${says})`);
  equal(await page.textContent("#promise"), "As promised.", `${claim}: the page says that its promise is kept`);
  equal(await page.getAttribute("#verdict", "data-state"), scene.state, `${claim}: the verdict`);
  check((await page.textContent("#live")).includes(says), `${claim}: the live region says the sentence`);
  const shown = await shownRows(page);
  scene.rows.forEach((rows, panel) => rows === null || equal(shown[panel], rows, `${claim}: panel ${panel}`));
  const [orders, charges, captures] = await books(base, sent);
  equal([shown[1], shown[2], shown[4]], [orders, charges, captures], `${claim}: the panels agree with the API and the books`);
  const times = captures === 1 ? `${TAKEN} once` : `${TAKEN} ${captures} times`;
  check(says.includes(captures === 0 ? "nothing taken" : times), `${claim}: the sentence agrees with the books`);
  check((await page.locator(".panel .mark").count()) > 0, `${claim}: changed rows are marked`);
}

/** The arrow keys open the details of each lane. */
async function lanes(page, scene, claim) {
  const all = page.locator("time-axis g.lane");
  const count = await all.count();
  if (scene.lanes !== null) equal(count, scene.lanes, `${claim}: each click or request has a lane`);
  await all.first().focus();
  const titles = [];
  for (let lane = 0; lane < count; lane += 1) {
    titles.push(await page.textContent(".lane-title"));
    await page.keyboard.press("ArrowDown");
  }
  equal(new Set(titles).size, count, `${claim}: arrow keys show the details of every lane`);
  const details = await page.textContent("request-details");
  check(details.includes("curl -i") && details.includes("Its policy"), `${claim}: details have a curl line and the policy`);
  for (const link of await page.$$eval("#links a, .rules a", (links) => links.map((a) => a.href))) {
    const answer = await page.request.get(link);
    equal(answer.status(), 200, `${claim}: ${link} is there`);
    const anchor = new URL(link).hash.slice(1);
    check(!anchor || (await answer.text()).includes(`id="${anchor}"`), `${claim}: ${link} has its anchor`);
  }
}

/** The slider shows the run step by step. Its last step is the end of the run. */
async function replay(page, scene, claim) {
  const bars = () => page.locator("time-axis .bar").count();
  const [all, rows] = [await bars(), await shownRows(page)];
  await page.locator("run-replay input").focus();
  await page.keyboard.press("Home");
  equal(await bars(), 0, `${claim}: before the first step, no request is shown`);
  await page.keyboard.press("ArrowRight");
  equal(await bars(), 1, `${claim}: the first step shows one request`);
  await page.keyboard.press("End");
  equal([await bars(), await shownRows(page)], [all, rows], `${claim}: the last step is the run as it ended`);
}

/** The other account sends twelve copies of a request, and the first two answers are dropped. */
export async function freePlay(browser, base, look) {
  const { page, context, name } = await open(browser, base, look, isRefusal);
  await page.goto(`${base}/#free-play`);
  await page.selectOption("#free-account", "globex");
  await page.fill("#free-copies", "12");
  await page.fill("#free-drops", "2");
  await page.fill("#free-apart", "20");
  const key = await page.inputValue("#free-key");
  await page.locator("#free-drops").press("Enter");
  await ended(page);
  const says = await page.textContent("#sentence");
  check(/^12 requests: (1 fresh, )?(9|10) replayed, 2 lost\. 1 order, 1 charge, EUR 49\.00 taken once\.$/.test(says), `${name}, free play: ${says}`);
  const records = await api(base, `/v1/idempotency-keys?key=${key}`, "globex");
  equal(records.data.length, 1, `${name}, free play: one record of the key`);
  await page.selectOption("#free-card", "pm_card_visa_chargeDeclined");
  await page.click(".new-key");
  check((await page.inputValue("#free-key")) !== key, `${name}, free play: a new key on demand`);
  await page.fill("#free-copies", "2");
  await page.fill("#free-drops", "0");
  await page.fill("#free-apart", "400");
  await page.click("#run");
  await ended(page);
  equal(await page.textContent("#sentence"), "2 requests: 1 replayed, 1 failed. 1 order, 1 charge, nothing taken.", `${name}, free play: declined`);
  await accessible(page, `${name}, free play`);
  await context.close();
}

/** Without a connection, the page says that the server is away. When the server is back, the page recovers by itself. */
export async function serverAway(browser, base, look) {
  const { page, context } = await open(browser, base, look, (message) => message.text().includes("net::ERR_INTERNET_DISCONNECTED"));
  await page.goto(`${base}/#one-key`);
  await page.keyboard.press("r");
  await ended(page);
  await context.setOffline(true);
  await page.locator("#away:visible").waitFor({ timeout: 15_000 });
  check(await page.isDisabled("#run"), "server away: nothing can be run");
  await context.setOffline(false);
  await page.locator("#away").waitFor({ state: "hidden", timeout: 15_000 });
  check(await page.isEnabled("#run"), "server back: the scene can be run again");
  await context.close();
}
