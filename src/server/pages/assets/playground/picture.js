// <time-axis>: each click or request has a lane. Each request is a bar from the send to the answer. The outcome decides the
// colour of the bar, and the shape at its end.

import { h, shape, span, svg } from "./dom.js";
import { OUTCOMES } from "./outcome.js";

const LANE = 28;
const TOP = 30;
const BAR = 10;
/** The width right of the last bar, for its shape and its status. */
const TAIL = 58;
/** The narrowest bar. A bar of a few ms would be invisible. */
const NARROWEST = 3;

/** The possible ends of the axis, in ms. Fixed steps, so that the axis does not jump at each frame of a growing run. */
const ENDS = [
  200, 300, 400, 500, 600, 700, 800, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 5000, 6000, 7000, 8000, 10_000, 12_000, 15_000, 20_000,
  30_000, 60_000, 120_000, 300_000,
];

export class TimeAxis extends HTMLElement {
  #model = { lanes: [], ghost: true, picked: null, cursor: null, now: null };
  #groups = [];

  connectedCallback() {
    this.svg = svg("svg", { role: "group", "aria-label": "Requests over time" });
    this.grid = svg("g", { "aria-hidden": "true" });
    this.lanes = svg("g");
    this.cursor = svg("line", { class: "cursor" });
    this.svg.append(this.grid, this.lanes, this.cursor);
    this.append(this.svg);
    new ResizeObserver(() => this.draw()).observe(this);
    this.svg.addEventListener("keydown", (event) => this.#move(event));
  }

  /** `{lanes: [{label, bars: [{from, to, outcome, status}]}], ghost, picked, cursor, now}`, times in ms. Dispatches `pick`. */
  set model(model) {
    this.#model = model;
    this.draw();
  }

  draw() {
    const width = this.clientWidth;
    if (!this.svg || width === 0) return;
    const { lanes, ghost, cursor } = this.#model;
    const left = width < 480 ? 104 : 128;
    const latest = Math.max(100, this.#model.now ?? 0, ...lanes.flatMap((lane) => lane.bars.map((bar) => bar.to ?? 0)));
    const end = ENDS.find((step) => step >= latest) ?? latest;
    const x = (ms) => left + (ms / end) * (width - left - TAIL);
    const height = TOP + Math.max(lanes.length, 1) * LANE + 6;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.svg.classList.toggle("ghost", ghost);
    this.#drawGrid(end, x, height, width);
    while (this.#groups.length > lanes.length) this.#groups.pop().remove();
    lanes.forEach((lane, index) => this.#drawLane(lane, index, x, width));
    this.cursor.classList.toggle("off", cursor === null);
    if (cursor !== null) {
      for (const [name, value] of Object.entries({ x1: x(cursor), x2: x(cursor), y1: TOP - 8, y2: height })) this.cursor.setAttribute(name, value);
    }
  }

  #drawGrid(end, x, height, width) {
    const count = width < 480 ? 2 : 4;
    const ticks = Array.from({ length: count + 1 }, (_, tick) => (end * tick) / count);
    this.grid.replaceChildren(...ticks.flatMap((ms, tick) => [
      svg("line", { class: "grid", x1: x(ms), x2: x(ms), y1: TOP - 6, y2: height }),
      svg("text", { class: "tick", x: x(ms), y: 14, "text-anchor": tick === 0 ? "start" : "middle" }, span(ms)),
    ]));
  }

  #drawLane(lane, index, x, width) {
    const group = (this.#groups[index] ??= this.#newLane(index));
    const middle = TOP + index * LANE + LANE / 2;
    const { cursor, ghost, picked } = this.#model;
    const bars = lane.bars.filter((bar) => cursor === null || bar.from <= cursor);
    const drawn = bars.flatMap((bar, place) => drawBar(cutAt(bar, cursor), x, middle, bars[place + 1]));
    group.replaceChildren(
      svg("rect", { class: "hit", x: 0, y: middle - LANE / 2, width, height: LANE, rx: 5 }),
      svg("text", { class: "label", x: 8, y: middle + 4 }, `${lane.label} `),
      ...drawn,
    );
    group.classList.toggle("picked", picked === index);
    // The accessible name begins with the visible text: the label, and the last status.
    const seen = [lane.label, bars.at(-1)?.status].filter(Boolean).join(" ");
    const say = `${seen}: ${lane.bars.map((bar) => spoken(bar)).join(", then ")}`;
    const attributes = ghost
      ? { role: "img", "aria-label": `expected: ${say}`, tabindex: null }
      : { role: "button", "aria-label": say, "aria-pressed": picked === index, tabindex: index === (picked ?? 0) ? 0 : -1 };
    if (ghost) group.removeAttribute("aria-pressed");
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null) group.removeAttribute(name);
      else if (group.getAttribute(name) !== String(value)) group.setAttribute(name, value);
    }
  }

  #newLane(index) {
    const pick = () => this.#pick(index);
    const group = svg("g", { class: "lane", onclick: pick, onfocus: pick });
    this.lanes.append(group);
    return group;
  }

  #pick(index) {
    if (this.#model.ghost || this.#model.picked === index) return;
    this.dispatchEvent(new CustomEvent("pick", { detail: index }));
  }

  #move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || this.#model.ghost) return;
    const to = Math.min(Math.max((this.#model.picked ?? 0) + step, 0), this.#groups.length - 1);
    event.preventDefault();
    this.#pick(to);
    this.#groups[to]?.focus();
  }
}
customElements.define("time-axis", TimeAxis);

function spoken(bar) {
  if (bar.outcome === "open") return "under way";
  return `${OUTCOMES[bar.outcome].name}, ${span(bar.to - bar.from)}`;
}

/** A bar at a moment. If the request was not answered at that moment, the bar is open. */
function cutAt(bar, cursor) {
  return cursor === null || bar.to <= cursor ? bar : { ...bar, to: cursor, outcome: "open", status: null };
}

/** The last bar of a lane ends with its shape and status. An earlier bar has a shape only if the next outcome differs. */
function drawBar(bar, x, middle, next) {
  const from = x(bar.from);
  const to = Math.max(x(bar.to), from + NARROWEST);
  const drawn = [svg("rect", { class: `bar ${bar.outcome}`, x: from, y: middle - BAR / 2, width: to - from, height: BAR, rx: 3 })];
  if (bar.outcome === "open") return drawn;
  if (!next) drawn.push(shape(bar.outcome, to + 11, middle));
  else if (next.outcome !== bar.outcome && to - from > 24) {
    const centre = (from + to) / 2;
    drawn.push(svg("circle", { class: "halo", cx: centre, cy: middle, r: 8 }), shape(bar.outcome, centre, middle));
  }
  if (!next && bar.status) drawn.push(svg("text", { class: "status", x: to + 22, y: middle + 4 }, String(bar.status)));
  return drawn;
}

/** The legend of the outcomes in the picture. */
export function legend(outcomes) {
  return outcomes.map((outcome) => {
    const picture = svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, shape(outcome));
    return h("span", { class: `key ${outcome}`, title: OUTCOMES[outcome].says }, picture, OUTCOMES[outcome].name);
  });
}
