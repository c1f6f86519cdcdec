// Checks every page at three widths, in light and dark.

import { readFile } from "node:fs/promises";
import http from "node:http";
import { check, finish, launch } from "./browser.mjs";
import { docs, texts } from "./pages.mjs";
import { beats, elsewhere, gesture, live, opening, serverAway } from "./stage.mjs";

const base = process.argv[2];
const looks = [
  { width: 1280, height: 800, scheme: "light" },
  { width: 1280, height: 800, scheme: "dark", reducedMotion: "reduce" },
  { width: 1920, height: 1080, scheme: "light", reducedMotion: "reduce" },
  { width: 390, height: 844, scheme: "light", reducedMotion: "reduce" },
  { width: 390, height: 844, scheme: "dark" },
];

/** The folder of the pages as a static host serves it. */
const assets = new URL("../../src/server/pages/assets/", import.meta.url);
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml", json: "application/json" };
const host = http.createServer(async (request, answer) => {
  const path = new URL(request.url, "http://host").pathname.replace(/^\/|\.\./g, "").replace(/(^|\/)$/, "$1index.html");
  try {
    answer.setHeader("Content-Type", TYPES[path.split(".").at(-1)] ?? "application/octet-stream");
    answer.end(await readFile(new URL(path, assets)));
  } catch {
    answer.writeHead(404).end();
  }
});
await new Promise((listening) => host.listen(0, "127.0.0.1", listening));

const browser = await launch();
try {
  for (const look of looks) {
    console.log(`${look.width} px, ${look.scheme}`);
    await opening(browser, base, look);
    await beats(browser, base, look);
    await gesture(browser, base, look);
    await texts(browser, base, look);
    await docs(browser, base, look);
  }
  for (const look of [looks[0], looks[3]]) await live(browser, base, look);
  await serverAway(browser, base, looks[1]);
  await elsewhere(browser, base, `http://127.0.0.1:${host.address().port}`);
} catch (error) {
  check(false, error.stack);
} finally {
  await browser.close();
  host.close();
}
finish();
