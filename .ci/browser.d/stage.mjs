// Uses the stage by keyboard and pointer, and compares what it says with the recordings, the API and the gateway's books.

import { readFileSync } from "node:fs";
import { accessible, check, equal, open } from "./browser.mjs";

const assets = new URL("../../src/server/pages/assets/stage/", import.meta.url);
const { BEATS } = await import(new URL("beats.js", assets));
const { parse } = await import(new URL("live.js", assets));

/** The longest run: after a crash, a lease ends after 15 s, and the page plays what came meanwhile. */
const LONGEST = 90_000;

/**
 * A larger shift moves what a visitor looks at. On an idle machine it is 0. On a busy one, a beat's settings come later than half a
 * second after the click, and the browser counts their change.
 */
const SHIFT = 0.005;

/** What a first visit may transfer, fonts included: a few seconds on a slow phone. */
const SIZE = 250_000;

const recording = (name) => parse(readFileSync(new URL(`recordings/${name}.jsonl`, assets), "utf8"));
const last = (page) => page.locator("#scrub").evaluate((slider) => Number(slider.max));
const dashed = (page) => page.locator("#rows .dashed").count();
const sentence = (page) => page.textContent("#sentence");

async function toStep(page, step) {
  await page.locator("#scrub").evaluate((slider, to) => {
    slider.value = to;
    slider.dispatchEvent(new Event("input"));
  }, step);
}

/** Waits until the run that the address names is shown. */
async function shown(page) {
  await page.waitForFunction(() => {
    const beats = Array.from(document.querySelectorAll("#beats a"));
    const named = beats.find((beat) => beat.hash === location.hash);
    const isLoading = document.getElementById("body").getAttribute("aria-busy") === "true" || (named && !named.hasAttribute("aria-current"));
    return !isLoading && Number(document.getElementById("scrub").max) > 5;
  });
  await page.locator("#scrub").evaluate((slider) => slider.blur());
}

const watchShifts = (page) =>
  page.addInitScript(() => {
    window.shift = 0;
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
    });
    observer.observe({ type: "layout-shift", buffered: true });
  });

async function still(page, claim) {
  const shift = await page.evaluate(() => window.shift);
  check(shift < SHIFT, `${claim}: nothing moves by itself (${shift})`);
}

/** The opening, from it to the first beat, and back. */
export async function opening(browser, base, look) {
  const { page, context, name } = await open(browser, base, look);
  await watchShifts(page);
  await page.goto(`${base}/`);
  equal(await page.textContent("#opening-title"), "You pay. The answer gets lost. You pay again.", `${name}: the opening`);
  equal(await page.locator("#opening .coin").count(), 3, `${name}: two coins and one`);
  await page.waitForTimeout(4_200);
  const size = await page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce((sum, entry) => sum + entry.transferSize, 0));
  check(size > 0 && size < SIZE, `${name}, the opening: ${size} bytes`);
  await still(page, `${name}, the opening`);
  await accessible(page, `${name}, the opening`);
  await page.keyboard.press("Tab");
  await page.locator("#start").press("Enter");
  await shown(page);
  equal(new URL(page.url()).hash, "#no-key", `${name}: the first beat has an address`);
  equal(await page.evaluate(() => document.activeElement.getAttribute("href")), "#no-key", `${name}: the focus is on the beat`);
  await page.goBack();
  await page.locator("#opening").waitFor();
  await context.close();
}

/** Each beat plays its recording at once, ends as the recording says, and can be gone through step by step. */
export async function beats(browser, base, look) {
  const { page, context, name } = await open(browser, base, look);
  await watchShifts(page);
  await page.goto(`${base}/`);
  for (const { name: beat, recording: other } of BEATS) {
    const claim = `${name}, ${beat}`;
    await page.locator(`#beats a[href="#${beat}"]`).click();
    await shown(page);
    const { charged } = recording(other ?? beat).at(-1);
    equal(await page.locator("#beats [aria-current]").getAttribute("href"), `#${beat}`, `${claim}: its link is marked`);
    await toStep(page, await last(page));
    equal(await page.textContent("#taken"), String(charged), `${claim}: the books`);
    equal(await page.locator("#stage .coin").count(), charged, `${claim}: a coin for each capture`);
    const words = charged === 1 ? /^The end: EUR 49\.00 was taken once/ : /^Charged twice: EUR 49\.00 was taken twice/;
    check(words.test(await sentence(page)), `${claim}: ${await sentence(page)}`);
    equal(await page.locator("#steps button").count(), (await last(page)) + 1, `${claim}: every step is in the list`);
    await page.locator("#steps button").nth(3).press("Enter");
    equal(await page.locator("#steps [aria-current]").getAttribute("data-step"), "3", `${claim}: the list leads to a step`);
    check((await page.textContent("#live")) === (await sentence(page)), `${claim}: the live region says the sentence`);
    await page.click("#on");
    await page.click("#back");
    await page.keyboard.press("ArrowRight");
    await accessible(page, claim);
    if (look.width >= 1280) {
      const bottom = await page.locator(".transport").evaluate((element) => element.getBoundingClientRect().bottom + scrollY);
      check(bottom <= look.height, `${claim}: all of the stage is above the fold (${bottom} px)`);
    }
  }
  await still(page, `${name}, the beats`);
  await context.close();
}

/** "as SVG": a file that needs nothing else, and has the rows and coins that the page has. Its light colours do not depend on the page's theme. */
async function picture(page, claim) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#as-svg")]);
  const text = readFileSync(await download.path(), "utf8");
  const elsewhere = text.replaceAll('xmlns="http://www.w3.org/2000/svg"', "").match(/url\(|https?:|href|@import|var\(|light-dark|currentcolor|Newsreader|JetBrains|Instrument/i);
  check(elsewhere === null, `${claim}, as SVG: nothing from elsewhere (${elsewhere?.[0]})`);
  const parts = [".coin", ".tx.open .chip", ".tx.open", ".tx.committed", ".tx.dissolved"];
  const shown = await page.$eval("#stage", (stage, selectors) => selectors.map((selector) => stage.querySelectorAll(selector).length), parts);
  // On a page without a Content-Security-Policy, as where people put it.
  const slide = await page.context().newPage();
  const saved = await slide.evaluate(async ([file, selectors]) => {
    const root = new DOMParser().parseFromString(file, "image/svg+xml").documentElement;
    const image = Object.assign(new Image(), { src: `data:image/svg+xml,${encodeURIComponent(file)}` });
    await image.decode();
    return { parts: selectors.map((selector) => root.querySelectorAll(selector).length), title: root.querySelector("title")?.textContent, paper: root.querySelector(".paper")?.getAttribute("fill"), width: image.naturalWidth };
  }, [text, parts]);
  await slide.close();
  equal(saved.parts, shown, `${claim}, as SVG: the rows and coins that the stage has (${parts})`);
  check(saved.title?.endsWith(await sentence(page)), `${claim}, as SVG: the sentence`);
  equal([saved.paper, saved.width], ["rgb(255, 255, 255)", 960], `${claim}, as SVG: a browser shows it, on white`);
  check(/@media \(prefers-color-scheme: dark\)\{\.dark0\{/.test(text), `${claim}, as SVG: the dark colours, too`);
}

/** The gesture: rows are dashed, and at COMMIT all are solid in one step; at a crash all are gone in one step. */
export async function gesture(browser, base, look) {
  const { page, context, name } = await open(browser, base, look);
  await page.goto(`${base}/#crash-before-commit`);
  await shown(page);
  const steps = await page.$$eval("#steps button", (buttons) => buttons.map((button) => button.textContent));
  const died = steps.findIndex((step) => step.includes("The process is killed"));
  const commit = steps.findIndex((step) => step.includes("COMMIT. All"));
  check(died > 0 && commit > died, `${name}: the beat has a crash and a COMMIT`);
  for (const [step, frame, after] of [[died, "dissolved", 0], [commit, "committed", 3]]) {
    await toStep(page, step - 1);
    const rows = await dashed(page);
    check(rows >= 3, `${name}, before step ${step}: ${rows} rows are dashed`);
    equal(await page.locator("#stage .tx.open .chip").count(), rows, `${name}, before step ${step}: as many on the stage`);
    check(await page.locator("#bracket").isVisible(), `${name}, before step ${step}: one bracket is around them`);
    await picture(page, `${name}, before step ${step}`);
    await page.click("#on");
    equal(await dashed(page), 0, `${name}, step ${step}: no row is dashed`);
    equal(await page.locator("#stage .tx.open").count(), 0, `${name}, step ${step}: no transaction is open`);
    check((await page.locator(`#stage .tx.${frame}`).count()) > 0, `${name}, step ${step}: it is ${frame}`);
    await picture(page, `${name}, step ${step}`);
    const solid = await page.locator("#rows .row:not(.dashed, .none)").count();
    check(after === 0 ? solid <= 1 : solid >= after, `${name}, step ${step}: ${solid} rows are solid`);
  }
  // The rows of two purchases are more than the panel has room for.
  await page.goto(`${base}/#no-key`);
  await page.getByText("What if you press Pay twice?").waitFor();
  await shown(page);
  const twice = await page.$$eval("#steps button", (buttons) => buttons.map((button) => button.textContent));
  await toStep(page, twice.findLastIndex((step) => step.includes("COMMIT. All")) - 1);
  equal(await page.locator("#rows .dashed .what").allTextContents(), ["1 of 2 records", "1 of 2 calls", "1 of 2 charges", "1 of 2 orders", "1 of 2 entitlements"], `${name}: a line for many rows is dashed while one of them is`);
  await context.close();
}

const succeeded = async (base) => {
  const answer = await fetch(`${base}/v1/charges?limit=100&status=succeeded`, { headers: { Authorization: "Bearer sk_demo_acme" } });
  return (await answer.json()).data.map(({ id }) => id);
};

async function ended(page) {
  await page.waitForFunction(() => document.getElementById("run").textContent === "Run it now", null, { timeout: LONGEST });
  await page.waitForFunction(() => /^(The end|Charged|The run)/.test(document.getElementById("sentence").textContent), null, { timeout: LONGEST });
}

/** Runs on this server, with a guess, with a kill by the bolt on the stage, and with a cross; compares the charges of the API. */
export async function live(browser, base, look) {
  const { page, context, name } = await open(browser, base, look);
  await page.goto(`${base}/#one-key`);
  await shown(page);
  await page.locator("#play").click();
  await page.check("[name=pace][value='1']");
  const before = await succeeded(base);
  await page.locator("[name=guess][value='1']").check();
  await page.locator("#run").press("Enter");
  await page.getByText("run just now, on this server").waitFor({ timeout: LONGEST, state: "attached" });
  await ended(page);
  equal(await page.textContent("#guess-what"), "You guessed it.", `${name}, live: the guess is compared`);
  equal(await page.textContent("#score-once"), "1", `${name}, live: the score counts`);
  equal((await succeeded(base)).filter((id) => !before.includes(id)).length, 1, `${name}, live: the API has one new charge`);
  check(await page.evaluate(() => document.activeElement.id === "run"), `${name}, live: the focus stays on the button`);

  await page.locator('.breaks [data-id="bolt-abefore-commit-1"]').click();
  await ended(page);
  equal(new URL(page.url()).hash, "#crash-before-commit", `${name}, live: a bolt runs with the kill`);
  check((await page.locator("#stage .killed").count()) === 1, `${name}, live: the kill is on the stage`);
  equal(await page.textContent("#taken"), "1", `${name}, live: the kill takes nothing twice`);
  equal(await page.locator("#map .broken").count(), 2, `${name}, live: the map fills`);

  await page.locator('.breaks [data-id="cross-request"]').click();
  await ended(page);
  check(new URL(page.url()).hash.includes("drop=request"), `${name}, live: a cross runs with the loss`);
  equal([await page.textContent("#score-broken"), await page.textContent("#score-twice")], ["3", "0"], `${name}, live: broken three times, paid twice never`);
  await accessible(page, `${name}, live`);
  await page.goBack();
  await page.waitForURL(/#crash-before-commit$/);
  await page.reload();
  await shown(page);
  equal(await page.textContent("#score-broken"), "3", `${name}, live: the score outlasts a load`);
  await context.close();
}

/** Without a connection the page says so, keeps playing, and goes on when the server is back. */
export async function serverAway(browser, base, look) {
  const { page, context } = await open(browser, base, look, (message) => message.text().includes("net::ERR_"));
  await page.goto(`${base}/#one-key`);
  await shown(page);
  await page.waitForFunction(() => document.querySelectorAll(".breaks button").length > 0);
  await context.setOffline(true);
  await page.click("#run");
  await page.getByText("The server does not answer.").waitFor();
  equal(await page.getAttribute("#run", "aria-disabled"), "true", "server away: nothing can be run");
  await page.click("#on");
  await context.setOffline(false);
  await page.getByText(/^The server is back/).waitFor({ timeout: 15_000 });
  equal(await page.getAttribute("#run", "aria-disabled"), "false", "server back: it can be run");
  await context.close();
}

/** With storage blocked, without JavaScript, at 200 % zoom, and as plain files on a static host. */
export async function elsewhere(browser, base, plain) {
  const look = { width: 1280, height: 800, scheme: "light", reducedMotion: "reduce" };
  const blocked = await open(browser, base, look);
  await blocked.page.addInitScript(() => Object.defineProperty(window, "sessionStorage", { get: () => { throw new DOMException("blocked", "SecurityError"); } }));
  await blocked.page.goto(`${base}/#two-replicas`);
  await shown(blocked.page);
  equal(await blocked.page.textContent("#taken"), "1", "storage blocked: the page works");
  await blocked.context.close();

  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 390, height: 844 } });
  const page = await context.newPage();
  await page.goto(`${base}/`);
  check(await page.locator("#opening .sum").nth(1).isVisible(), "no JavaScript: the still picture");
  check(await page.locator("#opening .words").isVisible(), "no JavaScript: the words");
  check(!(await page.locator("#body").isVisible()), "no JavaScript: no dead controls");
  await context.close();

  const zoomed = await open(browser, base, { ...look, width: 640, height: 400 });
  await zoomed.page.goto(`${base}/#ten-clicks`);
  await shown(zoomed.page);
  await accessible(zoomed.page, "zoom 200 %");
  await zoomed.context.close();

  const files = await open(browser, plain, look);
  await files.page.goto(`${plain}/stage/`);
  await files.page.locator("#start").click();
  await shown(files.page);
  await files.page.goto(`${plain}/stage/#crash-after-capture`);
  await shown(files.page);
  await toStep(files.page, await last(files.page));
  equal(await files.page.textContent("#taken"), "1", "plain files: the recordings play");
  check(await files.page.getByText("cargo run").isVisible(), "plain files: how to run it");
  equal(await files.page.locator(".breaks button").count(), 0, "plain files: nothing to press that can't work");
  await toStep(files.page, 5);
  check((await files.page.textContent("#code")).includes(".rs"), "plain files: where the code of a step is");
  await accessible(files.page, "plain files");
  await files.context.close();
}
