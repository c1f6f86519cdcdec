// The link to the code of a step, if the server or the recordings say where it is.

import { make } from "./dom.js";

/** `stage` is what `/demo/stage` says, or the file beside the recordings. */
export function codeLink(stage, hasServer, event, state) {
  const place = stage?.code?.[codeOf(event, state)];
  if (!place) return [];
  const [path, line] = place.split(":");
  const link = hasServer ? make("a", { href: `/source/${path}#L${line}` }, place) : make("code", {}, path);
  return ["The code: ", link];
}

/** The steps whose code is listed under another name. */
const CODE = { sent: "received", answered: "before-answer", gateway: "call", reply_of_call: "after-call" };

/** By which name the server knows the code of a step. */
function codeOf(event, state) {
  const { what } = event;
  if (what === "died") return event.at;
  if (state.settings.record === "apart" && ["begins", "statement", "commit", "call"].includes(what)) return "naive";
  const isFirst = state.transactions.findLast(({ tx, replica }) => tx === event.tx && replica === event.replica)?.lock === "ours";
  if (what === "commit") return isFirst ? "begins" : "before-commit-2";
  if (what !== "statement") return CODE[what] ?? what;
  if (event.table === "idempotency_keys") return event.verb === "insert" ? "recorded" : event.verb === "update" ? "finalized" : "claimed";
  return isFirst ? "statement" : "applied";
}
