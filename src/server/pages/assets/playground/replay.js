// <run-replay>: shows the last run again, step by step, with a slider.

import { h, span } from "./dom.js";
import { OUTCOMES } from "./outcome.js";

/** The time between two steps of the automatic replay, in ms. */
const STEP = 350;

class RunReplay extends HTMLElement {
  #steps = [];
  #timer = null;

  connectedCallback() {
    this.slider = h("input", { type: "range", min: 0, step: 1, "aria-label": "Step of the replay", oninput: () => this.#show() });
    this.says = h("output", { class: "step" });
    this.playButton = h("button", { type: "button", class: "quiet small", onclick: () => this.#toggle() }, "Replay");
    const step = (by, name, sign) => h("button", { type: "button", class: "quiet small", "aria-label": name, onclick: () => this.#go(this.slider.valueAsNumber + by) }, sign);
    this.append(h("div", { class: "replay-row" }, this.playButton, step(-1, "One step back", "‹"), this.slider, step(1, "One step on", "›")), this.says);
  }

  /** Takes the events of a run that has ended. */
  load(run) {
    this.#stop();
    this.#steps = run.requests.flatMap((request) => {
      const what = `${request.lane} · ${request.method} ${request.path.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, "…")}`;
      const sent = { at: request.sentAt, says: `${what}: sent` };
      const answer = `${request.status ?? "no answer"} ${request.aside ? "" : OUTCOMES[request.outcome].name}`.trim();
      return [sent, { at: request.answeredAt, says: `${what}: ${answer}` }];
    }).sort((a, b) => a.at - b.at);
    this.slider.max = this.#steps.length;
    this.slider.value = this.#steps.length;
    this.says.textContent = `${this.#steps.length} steps. Move the slider to see them one by one.`;
    this.#speak();
    this.hidden = this.#steps.length === 0;
  }

  #go(to) {
    this.#stop();
    this.slider.value = to;
    this.#show();
  }

  /** The last place of the slider is the end of the run. */
  #show() {
    const place = this.slider.valueAsNumber;
    const step = this.#steps[place - 1];
    this.says.textContent = step ? `${span(step.at)}: ${step.says}` : "Nothing is sent yet.";
    this.#speak();
    const ended = place === this.#steps.length;
    this.dispatchEvent(new CustomEvent("moment", { detail: ended ? null : (step?.at ?? 0) }));
  }

  #speak() {
    this.slider.setAttribute("aria-valuetext", this.says.textContent);
  }

  #toggle() {
    if (this.#timer) return this.#stop();
    if (this.slider.valueAsNumber >= this.#steps.length) this.slider.value = 0;
    this.playButton.textContent = "Stop";
    this.#timer = setInterval(() => {
      this.slider.value = this.slider.valueAsNumber + 1;
      this.#show();
      if (this.slider.valueAsNumber >= this.#steps.length) this.#stop();
    }, STEP);
    return this.#show();
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.playButton.textContent = "Replay";
  }
}
customElements.define("run-replay", RunReplay);
