// `.ci/browser record` plays each beat on a fresh server and writes its events into the page's recordings.

import { writeFileSync } from "node:fs";

const stage = new URL("../../src/server/pages/assets/stage/", import.meta.url);
const { BEATS, DEFAULTS } = await import(new URL("beats.js", stage));
const { run } = await import(new URL("live.js", stage));
const { ordered, stateAfter } = await import(new URL("state.js", stage));
const { quietOf } = await import(new URL("scale.js", stage));

const [base] = process.argv.slice(2);
const write = (name, text) => writeFileSync(new URL(`recordings/${name}`, stage), text);

// The page asks its own host.
const ask = globalThis.fetch;
globalThis.fetch = (url, options) => ask(new URL(url, base), options);

for (const { name, settings, recording } of BEATS) {
  if (recording) continue;
  const events = [];
  await run({ ...DEFAULTS, ...settings }, (event) => events.push(event));
  const end = events.at(-1);
  if (end?.what !== "end" || !end.complete) throw new Error(`${name} did not end: ${JSON.stringify(end)}`);
  // What the page never shows, the repeated looks of a request that waits, would make most of a file.
  const inOrder = ordered(events);
  const quiet = quietOf(stateAfter(inOrder, inOrder.length));
  const shown = inOrder.filter((_, index) => !quiet.has(index));
  write(`${name}.jsonl`, `${shown.map((event) => JSON.stringify(event)).join("\n")}\n`);
  console.log(`${name}: ${shown.length} of ${events.length} events, charged ${end.charged}`);
}
// Where the code of each step is, for a page without a server.
const { code, source } = await (await fetch("/demo/stage")).json();
write("stage.json", `${JSON.stringify({ code, source })}\n`);
