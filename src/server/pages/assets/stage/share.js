// Copies a text, or shows it where a browser does not let a page copy.

import { byId, say } from "./dom.js";

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
