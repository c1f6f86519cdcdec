// Copies a text, or shows it where a browser does not let a page copy. Saves a text as a file.

import { byId, make, say } from "./dom.js";

/** By then every browser has begun to save. */
const FORGET = 10_000;

export async function copy(text, button, title) {
  try {
    await navigator.clipboard.writeText(text);
    const words = button.textContent;
    say(button, "Copied");
    setTimeout(() => say(button, words), 1_500);
  } catch {
    dialog(title, text);
  }
}

export function dialog(title, text) {
  say(byId("script-title"), title);
  say(byId("script-text"), text);
  byId("script").showModal();
}

byId("copy-script").addEventListener("click", ({ target }) => copy(byId("script-text").textContent, target, "Copy this"));

export function save(text, type, name) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), FORGET);
}
