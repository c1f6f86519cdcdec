// Opens pages in Chromium, and fails if a page logs an error or sends a request to another host.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

const failures = [];

export function check(holds, claim) {
  if (!holds) {
    failures.push(claim);
    console.error(`FAILED: ${claim}`);
  }
}

export function equal(seen, wanted, claim) {
  check(JSON.stringify(seen) === JSON.stringify(wanted), `${claim}: ${JSON.stringify(seen)} should be ${JSON.stringify(wanted)}`);
}

/** Sets the exit code: 1 if a check failed, else 0. */
export function finish() {
  console.log(failures.length === 0 ? "all checks of the pages passed" : `${failures.length} checks failed`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

/** Opens a page and watches it. `sent` has the bodies of its POSTs. `expected(message)` says which console errors a test expects. */
export async function open(browser, base, { width, height, scheme, reducedMotion = "no-preference" }, expected = () => false) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion });
  const page = await context.newPage();
  const name = `${width} px, ${scheme}`;
  const sent = [];
  page.on("request", (request) => {
    const url = new URL(request.url());
    check(url.origin === base || url.protocol === "data:", `${name}: no request to another host (${request.url()})`);
    if (request.method() === "POST") sent.push(request.postDataJSON());
  });
  page.on("pageerror", (error) => check(false, `${name}: no exception (${error.message})`));
  page.on("console", (message) => {
    const bad = ["error", "warning"].includes(message.type()) && !expected(message);
    check(!bad, `${name}: nothing on the console (${message.text()} at ${message.location().url})`);
  });
  return { page, context, name, sent };
}

/** Fails if axe finds something serious or critical, or if the page is wider than the screen. */
export async function accessible(page, claim) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((tags) => window.axe.run({ runOnly: tags }), TAGS);
  for (const violation of violations.filter(({ impact }) => ["serious", "critical"].includes(impact))) {
    check(false, `${claim}: ${violation.id}: ${violation.nodes.map((node) => node.html.slice(0, 160)).slice(0, 3).join(" | ")}`);
  }
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(overflow <= 0, `${claim}: the page is not wider than the screen (${overflow} px)`);
}
