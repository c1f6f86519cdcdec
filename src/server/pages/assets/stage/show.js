// Shows a run: the drawing, the sentence, the SQL, the panel, the list of steps. It holds what follows from the events.

import { drawBreaks } from "./breaks.js";
import { byId, make, say, sync } from "./dom.js";
import { draw } from "./draw.js";
import { milliseconds, rough } from "./figures.js";
import { extentOf, viewOf } from "./geometry.js";
import { scaleOf, stay, stepsOf } from "./scale.js";
import { ordered, stateAfter } from "./state.js";
import { told } from "./told.js";
import { drawTruth } from "./truth.js";
import { sentence } from "./words.js";

const phone = matchMedia("(max-width: 43.99rem)");

/** How much of the picture stays ahead of the cursor on a phone. */
const AHEAD = 0.62;

export class Show {
  events = [];
  steps = [];
  #expected = null;
  #step = -1;
  #states = [];

  constructor(player, broke) {
    this.player = player;
    this.broke = broke;
    new ResizeObserver(() => this.layout()).observe(byId("viewport"));
    byId("steps").addEventListener("click", (click) => {
      const button = click.target.closest("button");
      if (button) player.go(Number(button.dataset.step));
    });
  }

  /** A new run. A live one grows; the run before it says how long it may become, so that its beginning stays in place. */
  load(events, growing = false) {
    this.#expected = growing ? (this.scale?.needs ?? null) : null;
    this.#step = -1;
    byId("viewport").scrollTop = 0;
    this.player.load(events, growing);
    this.grow(events, growing);
    this.render("step");
  }

  /** After more events. The list is the show's copy: it does not grow by itself. */
  grow(events, growing) {
    if (!growing) this.#expected = null;
    this.events = ordered(events);
    this.last = stateAfter(this.events, this.events.length);
    this.steps = stepsOf(this.events, this.last);
    if (this.steps.length === 0 && this.events.length > 0) this.steps = [this.events.length - 1];
    this.player.grow(this.events, this.steps, growing);
    this.#states = [];
    this.#list();
    this.#ticks();
    // The marks of the step are new too.
    this.#step = -1;
    this.layout();
  }

  layout() {
    if (!this.last) return;
    const box = byId("viewport");
    const [width, height] = [box.clientWidth, box.clientHeight];
    if (width === 0) return;
    const replicas = this.last.settings.replicas === 2 ? 2 : 1;
    this.view = viewOf({ width, height, down: phone.matches, replicas });
    const { start, length, down } = this.view;
    this.scale = scaleOf(this.events, this.last, { start, length, down, expected: this.#expected });
    const extent = extentOf(this.view, this.scale);
    byId("canvas").style.height = down ? `${extent}px` : "";
    const stage = byId("stage");
    stage.setAttribute("viewBox", `0 0 ${width} ${extent}`);
    stage.setAttribute("height", down ? extent : height);
    box.tabIndex = down ? 0 : -1;
    if (!down) box.removeAttribute("tabindex");
    this.render("frame");
    this.drawBreaks();
  }

  drawBreaks() {
    if (this.scale) drawBreaks({ last: this.last, scale: this.scale, view: this.view, settings: this.last.settings, usable: this.usable }, this.broke);
  }

  #stateAfter(count) {
    return (this.#states[count] ??= stateAfter(this.events, count));
  }

  /** Draws the player's position. */
  render(reason) {
    const { player, events, scale, view } = this;
    if (!scale || this.steps.length === 0) return;
    const { here, next, now, state } = this.#moment(scale);
    sync(byId("stage"), draw(events, state, this.last, scale, view, now));
    if (view.down) this.#follow(now);
    drawTruth(state);
    if (reason !== "frame" || this.#step !== player.step) this.#tell(here, state);
    this.#clock(here, next);
  }

  /** The player's position on a scale: its step and the next one, the place of the cursor, and the state. */
  #moment({ place }) {
    const { steps, player } = this;
    const [here, next] = [steps[player.step], steps[player.step + 1]];
    if (next === undefined) return { here, next, now: place[here], state: this.#stateAfter(this.events.length) };
    const now = place[here] + (place[next] - place[here]) * player.part;
    let count = here + 1;
    while (count < next && place[count] <= now) count += 1;
    return { here, next, now, state: this.#stateAfter(count) };
  }

  /** The stage at this moment, as the text of an SVG file. Few visitors want it, so its code is loaded here. */
  async picture(title) {
    const { composed, pictureView, standalone } = await import("./picture.js");
    const { events, last } = this;
    const { view, scale } = pictureView(events, last);
    const { here, now, state } = this.#moment(scale);
    const words = { title, sentence: sentence(events[here], this.#stateAfter(here + 1)), when: `${byId("recorded").textContent}, ${byId("clock").textContent}` };
    return standalone(composed({ events, last, state, now, view, scale }, words));
  }

  /** Keeps the cursor in the phone's window. */
  #follow(now) {
    const box = byId("viewport");
    const top = Math.max(now - box.clientHeight * AHEAD, 0);
    if (Math.abs(box.scrollTop - top) > 1) box.scrollTop = top;
  }

  /** Shows the step: the sentence, what is sent, the code. */
  #tell(here, state) {
    const { player } = this;
    this.#step = player.step;
    const event = this.events[here];
    const after = this.#stateAfter(here + 1);
    const words = sentence(event, after);
    say(byId("sentence"), words);
    const { lines, current, which } = told(this.events, here, after, this.last);
    byId("sql").replaceChildren(...lines.map((line, index) => make("li", { class: index === current ? "here" : "" }, line)));
    say(byId("which"), which);
    this.code?.(event, state);
    const scrub = byId("scrub");
    scrub.max = String(player.last);
    scrub.value = String(player.step);
    scrub.setAttribute("aria-valuetext", `${milliseconds(event.t - (this.last.zero ?? 0))}: ${words}`);
    if (!player.playing) say(byId("live"), words);
    byId("ticks").querySelectorAll("i").forEach((tick, index) => tick.classList.toggle("past", index <= player.step));
    const before = byId("steps").querySelector("[aria-current]");
    const button = byId("steps").querySelector(`[data-step="${player.step}"]`);
    if (before !== button) before?.removeAttribute("aria-current");
    button?.setAttribute("aria-current", "step");
  }

  #clock(here, next) {
    const { events, player } = this;
    const real = next === undefined ? 0 : events[next].t - events[here].t;
    const since = (t) => milliseconds(Math.max(t - (this.last.zero ?? 0), 0));
    say(byId("clock"), `${since(events[here].t + real * player.part)} of ${since(events.at(-1).t)}`);
    if (next === undefined) return say(byId("pace-words"), this.player.growing ? "the server goes on" : "the end of the run");
    const shown = stay(events, here, next, player.pace, player.crowded) / Math.max(real / 1000, 0.001);
    return say(byId("pace-words"), shown > 1.5 ? `this step: ${rough(shown)} × slower` : shown < 0.67 ? `this pause: ${rough(1 / shown)} × faster` : "as fast as it was");
  }

  #list() {
    const list = byId("steps");
    const buttons = this.steps.map((index, step) => {
      const event = this.events[index];
      return make("li", {}, make("button", { type: "button", "data-step": step }, make("time", {}, milliseconds(Math.max(event.t - (this.last.zero ?? 0), 0))), make("span", {}, sentence(event, this.#stateAfter(index + 1)))));
    });
    const kept = list.contains(document.activeElement) ? document.activeElement.dataset.step : null;
    list.replaceChildren(...buttons);
    if (kept) list.querySelector(`[data-step="${kept}"]`)?.focus({ preventScroll: true });
  }

  #ticks() {
    const kinds = { gateway: "money", died: "bad", dropped: "bad", no_answer: "bad" };
    const last = Math.max(this.steps.length - 1, 1);
    byId("ticks").replaceChildren(...this.steps.map((index, step) => {
      const tick = make("i", { class: kinds[this.events[index].what] ?? "" });
      tick.style.left = `${(step / last) * 100}%`;
      return tick;
    }));
  }
}
