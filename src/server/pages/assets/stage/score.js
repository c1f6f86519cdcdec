// What this visitor has broken and bought, by the gateway's books: the figures, and the map of the places.

import { DROPS, KILLS } from "./beats.js";
import { byId, icon, make, memory, say } from "./dom.js";
import { often } from "./figures.js";
import { pointInWords } from "./words.js";

const EMPTY = { broken: 0, purchases: 0, once: 0, twice: 0, naiveTwice: 0, lost: 0, replicas: false, places: {} };

const score = { ...EMPTY, ...memory.get("score") };

/** A run of a naive way: a key per click, or a record apart. It may charge twice, and its double charge is worded differently. */
export const isNaive = (settings) => settings.key === "click" || settings.record === "apart";

/** Counts a run that has ended on this server. */
export function count(settings, end) {
  if (!end) return;
  const broke = Boolean(settings.kill || settings.drop);
  const naive = isNaive(settings);
  score.broken += broke ? 1 : 0;
  score.purchases += end.purchases ?? 1;
  score.once += end.paid_once ?? 0;
  score[naive ? "naiveTwice" : "twice"] += end.paid_twice ?? 0;
  score.lost += end.lost ?? 0;
  score.replicas ||= settings.replicas === 2;
  const place = settings.kill ? `kill ${settings.kill.at}` : settings.drop ? `drop ${settings.drop}` : null;
  if (place) score.places[place] = { charged: end.charged, naive };
  memory.set("score", score);
  drawScore();
}

export function drawScore() {
  say(byId("score-broken"), String(score.broken));
  say(byId("score-purchases"), String(score.purchases));
  say(byId("score-once"), String(score.once));
  say(byId("score-twice"), String(score.twice));
}

const DROP_TITLES = { request: "the request is lost", reply: "the reply is lost", call: "the call is lost", answer: "the gateway's answer is lost" };

/** Draws the map. `broke` is called by a press, as by the buttons on the stage. */
export function drawMap(usable, broke) {
  const places = [...KILLS.map((at) => ({ kill: { at, replica: "a" } })), ...DROPS.map((drop) => ({ drop }))];
  const list = byId("map");
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.place : null;
  list.replaceChildren(...places.map(({ kill, drop }) => {
    const name = kill ? `kill ${kill.at}` : `drop ${drop}`;
    const broken = score.places[name];
    const result = broken ? `${broken.charged} charge${broken.charged === 1 ? "" : "s"}${broken.naive ? ", without the safeguard" : ""}` : "not yet";
    const words = kill ? `killed ${pointInWords(kill.at)}` : DROP_TITLES[drop];
    const state = broken ? (broken.charged > 1 ? "twice" : "broken") : "";
    const press = () => broke(kill ? { kill } : { drop });
    return make("li", {}, make("button", { type: "button", class: state, disabled: !usable, "data-place": name, onclick: press },
      make("i", { "aria-hidden": "true" }, icon(kill ? "bolt" : "cross")), make("span", {}, words), make("span", { class: "result" }, result)));
  }));
  if (focused) list.querySelector(`[data-place="${focused}"]`)?.focus();
  const done = (kind, all) => all.filter((name) => score.places[`${kind} ${name}`]).length;
  const naive = score.naiveTwice > 0 ? ` Without the safeguard: charged ${often(2)}, in ${score.naiveTwice} run${score.naiveTwice === 1 ? "" : "s"}.` : "";
  say(byId("map-sum"), `${done("kill", KILLS)} of ${KILLS.length} kills, ${done("drop", DROPS)} of ${DROPS.length} lost messages, two replicas ${score.replicas ? "tried" : "not tried yet"}. Charged twice: ${score.twice}. Lost: ${score.lost}.${naive}`);
}
