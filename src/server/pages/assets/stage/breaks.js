// The buttons on the stage that break a run: a bolt at each kill point that the run passes, a cross on each kind of arrow.

import { icon, make, byId } from "./dom.js";
import { point } from "./geometry.js";
import { pointInWords } from "./words.js";

/** Buttons are 24 px wide, so their middles are at least this far apart. */
const APART = 25;

const CROSS_WORDS = {
  request: "Drop the request", reply: "Drop the server's reply", call: "Drop the call to the gateway", answer: "Drop the gateway's answer",
};

/** Moves places apart, keeping their order and staying between two bounds. */
function spread(places, from, to) {
  const moved = [...places];
  let bound = from;
  for (const index of moved.keys()) {
    moved[index] = Math.max(moved[index], bound);
    bound = moved[index] + APART;
  }
  bound = to;
  for (let index = moved.length - 1; index >= 0; index -= 1) {
    moved[index] = Math.max(Math.min(moved[index], bound), from);
    bound = moved[index] - APART;
  }
  return moved;
}

/** As `spread`, but the place at `fixed` stays where it is. */
function spreadAround(places, fixed, from, to) {
  if (fixed < 0) return spread(places, from, to);
  const middle = places[fixed];
  return [...spread(places.slice(0, fixed), from, middle - APART), middle, ...spread(places.slice(fixed + 1), middle + APART, to)];
}

function bolts(last, scale, view) {
  const first = new Map();
  for (const step of last.steps) if (!first.has(step.point) && (step.replica === "a" || view.replicas === 2)) first.set(step.point, step);
  return [...Map.groupBy(first.values(), ({ replica }) => replica)].flatMap(([replica, steps]) => {
    // The bolt that killed the process is where it died.
    const death = last.replicas[replica]?.bars.find(({ point }) => point !== null);
    const hit = steps.findIndex(({ point }) => point === death?.point);
    const places = spreadAround(steps.map(({ at }, index) => scale.place[index === hit ? death.to : at]), hit, view.start + 8, Math.max(scale.end, view.start + steps.length * APART));
    return steps.map((step, index) => ({ kind: "bolt", name: step.point, replica, u: places[index], v: view.lanes[replica] }));
  });
}

function crosses(last, { place }, view) {
  const found = [];
  const cross = (name, u, v) => found.push({ kind: "cross", name, u, v });
  const between = (from, to) => (place[from] + place[to]) / 2;
  const inDatabase = (part) => view.pg.from + (view.pg.to - view.pg.from) * part;
  // Nearer to the client, so that it stays 24 px away from the bolts.
  const nearClient = view.lanes.client + (view.lanes.a - view.lanes.client) * 0.42;
  const tries = [...last.requests.values()].flat();
  // What is already lost is marked where it was lost.
  const lost = (of) => tries.find(({ dropped }) => dropped?.of === of);
  const first = tries.find(({ number, receivedAt }) => number === 1 && receivedAt !== null);
  const answered = tries.find(({ answeredAt, replica }) => answeredAt !== null && replica === "a");
  if (lost("request")) cross("request", place[lost("request").dropped.at] - 4, nearClient);
  else if (first) cross("request", between(first.sentAt, first.receivedAt), nearClient);
  if (lost("reply")) cross("reply", place[lost("reply").noAnswerAt ?? lost("reply").dropped.at] - 9, nearClient);
  else if (answered) cross("reply", place[answered.answeredAt] - 8, nearClient);
  const cut = last.calls.find(({ dropped }) => dropped?.of === "call");
  const call = last.calls.find(({ gateway, kind }) => gateway && kind !== "look_up");
  const back = last.calls.find(({ gateway, replyAt }) => gateway && replyAt !== null);
  if (cut) cross("call", between(cut.at, cut.dropped.at), (view.lanes.a + view.lanes.gateway) / 2);
  else if (call) cross("call", between(call.at, call.gateway.at), inDatabase(0.55));
  if (back) cross("answer", between(back.gateway.at, back.replyAt), inDatabase(0.85));
  return found;
}

/** Draws the buttons. `broke({kill} or {drop})` is called by a press. */
export function drawBreaks({ last, scale, view, settings, usable }, broke) {
  const box = byId("breaks");
  const found = usable ? [...bolts(last, scale, view), ...crosses(last, scale, view)] : [];
  const wanted = found.map(({ kind, name, replica, u, v }) => ({ id: `${kind}-${replica ?? ""}${name}`, kind, name, replica, u, v }));
  const known = new Map(Array.from(box.children, (button) => [button.dataset.id, button]));
  const buttons = wanted.map(({ id, kind, name, replica, u, v }) => {
    const button = known.get(id) ?? build(id, kind, name, replica, broke);
    const isSet = kind === "bolt" ? settings.kill?.at === name && settings.kill.replica === replica : settings.drop === name;
    button.classList.toggle("hit", isSet);
    button.setAttribute("aria-pressed", isSet);
    const [x, y] = point(view, u, v);
    button.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    return button;
  });
  if (buttons.length !== box.children.length || buttons.some((button, index) => box.children[index] !== button)) box.replaceChildren(...buttons);
}

function build(id, kind, name, replica, broke) {
  const words = kind === "bolt" ? `Kill ${replica === "b" ? "replica B" : "the process"} ${pointInWords(name)}` : CROSS_WORDS[name];
  const press = () => broke(kind === "bolt" ? { kill: { at: name, replica } } : { drop: name });
  return make("button", { type: "button", class: kind, "data-id": id, title: words, "aria-label": words, onclick: press }, icon(kind));
}
