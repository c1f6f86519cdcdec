// Parses each mermaid block of the pages with mermaid.
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");

let pictures = 0;
let wrong = 0;
for (const page of process.argv.slice(2)) {
  for (const [, picture] of readFileSync(page, "utf8").matchAll(/^```mermaid\n(.*?)^```$/gms)) {
    pictures += 1;
    try {
      await mermaid.parse(picture);
    } catch (error) {
      wrong += 1;
      console.error(`${page}: ${error.message}\n${picture}`);
    }
  }
}
if (pictures === 0 || wrong > 0) process.exit(1);
console.log(`mermaid can parse all ${pictures} pictures`);
