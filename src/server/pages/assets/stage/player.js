// Plays a run step by step. A position is a step and a part of the way to the next one. The player knows nothing of the picture.

import { stay } from "./scale.js";

/** With this setting there is no motion: `play` shows the last step at once, and the steps can be gone through one by one. */
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Player {
  #frame = null;
  #before = 0;
  events = [];
  steps = [];
  step = 0;
  part = 0;
  pace = 20;
  playing = false;
  /** A live run: more events may come, so the player waits at the last step. */
  growing = false;
  crowded = false;

  /** `changed(reason)` is called after each change: "step", "frame", "state". */
  constructor(changed) {
    this.changed = changed;
  }

  load(events, growing = false) {
    this.stop();
    Object.assign(this, { events, steps: [], growing, step: 0, part: 0 });
  }

  /** The run so far. */
  grow(events, steps, growing) {
    Object.assign(this, { events, steps, growing });
    this.crowded = events.filter(({ what, try: number }) => what === "sent" && number === 1).length > 3;
    if (this.playing && still.matches && !growing) this.#end();
  }

  get last() {
    return Math.max(this.steps.length - 1, 0);
  }

  get atEnd() {
    return this.step >= this.last && !this.growing;
  }

  play() {
    if (this.atEnd) this.#to(0);
    this.playing = true;
    if (still.matches) {
      if (!this.growing) this.#end();
      return this.changed("state");
    }
    this.#before = performance.now();
    this.#frame ??= requestAnimationFrame(this.#tick);
    return this.changed("state");
  }

  #end() {
    this.#to(this.last);
    this.stop();
  }

  stop() {
    this.playing = false;
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
  }

  pause() {
    this.stop();
    this.part = 0;
    this.changed("step");
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Goes to a step and stays there. */
  go(step) {
    this.stop();
    this.#to(step);
    this.changed("step");
  }

  #to(step) {
    this.step = Math.min(Math.max(step, 0), this.last);
    this.part = 0;
  }

  #tick = (now) => {
    this.#frame = null;
    if (!this.playing) return;
    let left = Math.min(now - this.#before, 100);
    this.#before = now;
    const from = this.step;
    while (left > 0 && this.step < this.last) {
      const whole = Math.max(stay(this.events, this.steps[this.step], this.steps[this.step + 1], this.pace, this.crowded), 1);
      const rest = whole * (1 - this.part);
      if (left < rest) {
        this.part += left / whole;
        break;
      }
      left -= rest;
      this.#to(this.step + 1);
    }
    if (this.atEnd) {
      this.stop();
      return this.changed("step");
    }
    this.#frame = requestAnimationFrame(this.#tick);
    return this.changed(this.step === from ? "frame" : "step");
  };
}
