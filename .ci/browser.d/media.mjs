// `.ci/browser media` makes the picture and the animation at the top of the README from real runs.

import { mkdirSync, writeFileSync } from "node:fs";
import gifenc from "gifenc";
import { PNG } from "pngjs";
import { launch } from "./browser.mjs";

const [base, folder] = process.argv.slice(2);
const { GIFEncoder, quantize, applyPalette } = gifenc;

/** A GIF has 256 colours. One of them means "as before", so that a frame holds only the changed pixels. */
const COLOURS = 255;

/** In ms: how long the animation shows a step of the replay, and the end of a scene. */
const STEP = 110;
const HOLD = 2600;

/** The animation shows only the stage: the scene and the books beside the scene. */
const SIZE = { width: 1120, height: 1300 };
const STAGE = { height: 810, margin: 20 };

const ended = (page) => page.waitForFunction(() => document.getElementById("run-label").textContent === "Run again");

async function shown(browser, size, scale) {
  const context = await browser.newContext({ viewport: size, colorScheme: "light", reducedMotion: "reduce", deviceScaleFactor: scale });
  const page = await context.newPage();
  await page.goto(`${base}/`);
  await page.evaluate(() => document.fonts.ready);
  return page;
}

async function picture(browser) {
  const page = await shown(browser, { width: 1280, height: 1090 }, 1.5);
  await page.keyboard.press("2");
  await page.keyboard.press("r");
  await ended(page);
  await page.screenshot({ path: `${folder}/playground.png` });
}

/** Runs a scene and takes one frame for every second step of its replay. */
async function frames(page) {
  const stage = await page.locator(".stage").boundingBox();
  const clip = { x: stage.x - STAGE.margin, y: stage.y - STAGE.margin, width: stage.width + 2 * STAGE.margin, height: STAGE.height };
  const shot = async (delay) => ({ delay, png: PNG.sync.read(await page.screenshot({ clip })) });
  const all = [await shot(1400)];
  await page.keyboard.press("r");
  await ended(page);
  const slider = page.locator("run-replay input");
  await slider.evaluate((input) => input.blur());
  const steps = Number(await slider.getAttribute("max"));
  for (let step = 1; step < steps; step += 2) {
    await slider.evaluate((input, to) => { input.value = to; input.dispatchEvent(new Event("input")); }, step);
    all.push(await shot(STEP));
  }
  await slider.evaluate((input, to) => { input.value = to; input.dispatchEvent(new Event("input")); }, steps);
  await page.waitForTimeout(500);
  return [...all, await shot(HOLD)];
}

async function animation(browser) {
  const page = await shown(browser, SIZE, 1);
  const all = await frames(page);
  await page.keyboard.press("n");
  all.push(...(await frames(page)));
  const gif = GIFEncoder();
  const sample = Buffer.concat(all.filter((_, index) => index % 12 === 0 || index === all.length - 1).map(({ png }) => png.data));
  const palette = quantize(sample, COLOURS);
  let before = null;
  for (const { png, delay } of all) {
    const colours = applyPalette(png.data, palette);
    const changed = before === null ? colours : colours.map((colour, pixel) => (colour === before[pixel] ? COLOURS : colour));
    const transparent = before !== null;
    gif.writeFrame(changed, png.width, png.height, { palette: [...palette, [0, 0, 0]], delay, transparent, transparentIndex: COLOURS, dispose: 1 });
    before = colours;
  }
  gif.finish();
  writeFileSync(`${folder}/playground.gif`, gif.bytes());
}

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  await picture(browser);
  await animation(browser);
} finally {
  await browser.close();
}
