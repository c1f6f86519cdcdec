// `.ci/browser record` plays each beat three times on a fresh server and writes the shortest run into the page's recordings.

import { writeFileSync } from "node:fs";

const stage = new URL("../../src/server/pages/assets/stage/", import.meta.url);
const { BEATS, DEFAULTS } = await import(new URL("beats.js", stage));
const { run } = await import(new URL("live.js", stage));
const { ordered, stateAfter } = await import(new URL("state.js", stage));
const { quietOf } = await import(new URL("scale.js", stage));

const [base] = process.argv.slice(2);
const write = (name, text) => writeFileSync(new URL(`recordings/${name}`, stage), text);

// The page uses relative URLs.
const ask = globalThis.fetch;
globalThis.fetch = (url, options) => ask(new URL(url, base), options);

/** Other work on the machine stretches a run. The shortest of this many shows the server's own times best. */
const RUNS = 3;

async function shortest(name, settings) {
  let best = null;
  for (let count = 0; count < RUNS; count += 1) {
    const events = [];
    await run({ ...DEFAULTS, ...settings }, (event) => events.push(event));
    const end = events.at(-1);
    if (end?.what !== "end" || !end.complete) throw new Error(`${name} did not end: ${JSON.stringify(end)}`);
    if (best === null || lengthOf(events) < lengthOf(best)) best = events;
  }
  return best;
}

const lengthOf = (events) => events.at(-1).t - events.find(({ what }) => what === "sent").t;

for (const { name, settings, recording } of BEATS) {
  if (recording) continue;
  const events = await shortest(name, settings);
  // The repeated looks of a waiting request, which the page never shows, would make up most of a file.
  const inOrder = ordered(events);
  const quiet = quietOf(stateAfter(inOrder, inOrder.length));
  const shown = inOrder.filter((_, index) => !quiet.has(index));
  write(`${name}.jsonl`, `${shown.map((event) => JSON.stringify(event)).join("\n")}\n`);
  console.log(`${name}: ${shown.length} of ${events.length} events, charged ${events.at(-1).charged}, ${Math.round(lengthOf(events) / 1000)} ms`);
}
// In which file the code of each step is, for a page without a server. Lines move with every change.
const { code } = await (await fetch("/demo/stage")).json();
const files = Object.fromEntries(Object.entries(code).map(([step, place]) => [step, place.split(":")[0]]));
write("stage.json", `${JSON.stringify({ code: files })}\n`);
