// `.ci/browser media` renders the picture and the animation at the top of the README: the opening as a still, and the
// stage from the recording of the crash after the money moved.

import { mkdirSync, writeFileSync } from "node:fs";
import gifenc from "gifenc";
import { PNG } from "pngjs";
import { launch } from "./browser.mjs";

const [base, folder] = process.argv.slice(2);
const { GIFEncoder, quantize, applyPalette } = gifenc;

/** A GIF has 256 colours. One of them means "as before", so that a frame holds only the changed pixels. The page has few colours. */
const COLOURS = 31;

/** In ms: how long the animation shows the opening, a usual step, a step that matters, and the end. */
const OPENING = 2600;
const STEP = 520;
const LONG = 1500;
const END = 4000;
const MATTERS = /killed|COMMIT|takes EUR|takes no money/;

const SIZE = { width: 1120, height: 782 };
/** As much of the page as the stage and its sentence take at this size. */
const FRAME = 490;

async function shown(browser, hash, size, scale) {
  const context = await browser.newContext({ viewport: size, colorScheme: "light", reducedMotion: "reduce", deviceScaleFactor: scale });
  const page = await context.newPage();
  await page.goto(`${base}/${hash}`);
  await page.evaluate(() => document.fonts.ready);
  await page.locator("#opening .why").evaluate((why) => why.remove());
  return page;
}

/** Both halves of the opening, legible at 560 px. */
async function picture(browser) {
  const page = await shown(browser, "", { width: 860, height: 900 }, 1.5);
  await page.locator("#opening").screenshot({ path: `${folder}/stage.png` });
}

async function frames(browser) {
  const shot = async (page, element, delay) => {
    const box = await page.locator(element).boundingBox();
    const clip = { x: 0, y: Math.round(box.y) - 12, width: SIZE.width, height: FRAME };
    // The browser would cut the picture there, and every frame of a GIF has the size of the first one.
    if (clip.y + FRAME > SIZE.height) throw new Error(`${element} begins at ${clip.y}: ${FRAME} px of it do not fit on the screen`);
    return { delay, png: PNG.sync.read(await page.screenshot({ clip })) };
  };
  const opening = await shown(browser, "", SIZE, 1);
  const all = [await shot(opening, "#opening", OPENING)];
  const page = await shown(browser, "#crash-after-capture", SIZE, 1);
  await page.waitForFunction(() => Number(document.getElementById("scrub").max) > 5);
  await page.locator("#settings").evaluate((settings) => settings.remove());
  const steps = await page.$$eval("#steps button", (buttons) => buttons.map((button) => button.textContent));
  for (const [step, words] of steps.entries()) {
    // Every second one of the usual steps is enough, and keeps the file small.
    if (!MATTERS.test(words) && step % 2 === 1 && step < steps.length - 1) continue;
    await page.locator("#scrub").evaluate((slider, to) => {
      slider.value = to;
      slider.dispatchEvent(new Event("input"));
    }, step);
    all.push(await shot(page, "#body", step === steps.length - 1 ? END : MATTERS.test(words) ? LONG : STEP));
  }
  return all;
}

async function animation(browser) {
  const all = await frames(browser);
  const gif = GIFEncoder();
  const sample = Buffer.concat(all.filter((_, index) => index % 6 === 0 || index === all.length - 1).map(({ png }) => png.data));
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
  writeFileSync(`${folder}/stage.gif`, gif.bytes());
}

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  await picture(browser);
  await animation(browser);
} finally {
  await browser.close();
}
