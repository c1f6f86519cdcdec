// The opening plays by itself when it is shown. Space plays it again.

import { byId } from "./dom.js";

export function replayOpening() {
  const opening = byId("opening");
  opening.classList.remove("plays");
  void opening.offsetWidth;
  opening.classList.add("plays");
}
