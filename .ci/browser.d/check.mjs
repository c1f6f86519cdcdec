// Checks every page at two widths, in light and dark.

import { check, finish, launch } from "./browser.mjs";
import { docs, texts } from "./pages.mjs";
import { freePlay, playground, serverAway } from "./playground.mjs";

const base = process.argv[2];
const looks = [
  { width: 1280, scheme: "light" },
  { width: 1280, scheme: "dark", reducedMotion: "reduce" },
  { width: 390, scheme: "light", reducedMotion: "reduce" },
  { width: 390, scheme: "dark" },
];

const browser = await launch();
try {
  for (const look of looks) {
    console.log(`${look.width} px, ${look.scheme}`);
    await playground(browser, base, look);
    await freePlay(browser, base, look);
    await texts(browser, base, look);
    await docs(browser, base, look);
  }
  await serverAway(browser, base, looks[0]);
} catch (error) {
  check(false, error.stack);
} finally {
  await browser.close();
}
finish();
