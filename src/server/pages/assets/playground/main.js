// The page: the scene that is shown, the run of each scene, and the keys of the keyboard.

import "./details.js";
import "./free-play.js";
import "./panels.js";
import "./replay.js";
import { h } from "./dom.js";
import { isServerThere, readLedger } from "./ledger.js";
import { OUTCOMES, drawnAs, sentence } from "./outcome.js";
import { legend } from "./picture.js";
import { Run, pause } from "./run.js";
import { FREE_PLAY, SCENES } from "./scenes.js";

/** The time between two looks into the books, in ms: during a run, and when nothing happens. */
const LOOK_EVERY = 500;
const LOOK_WHEN_IDLE = 5000;

const $ = (id) => document.getElementById(id);
const scenes = [...SCENES, FREE_PLAY];
const runs = new Map();
let current = 0;
let picked = null;
let moment = null;
let away = false;

const scene = () => scenes[current];
const run = () => runs.get(scene().id) ?? null;

function say(text) {
  $("live").textContent = text;
}

function show(index, { focus = false } = {}) {
  current = Math.min(Math.max(index, 0), scenes.length - 1);
  picked = null;
  moment = null;
  const { id, title, says, see } = scene();
  const free = scene() === FREE_PLAY;
  $("scene-number").textContent = free ? "Your turn" : `Scene ${current + 1} of ${SCENES.length}`;
  $("scene-title").textContent = title;
  $("scene-says").textContent = says;
  $("scene-see").textContent = see;
  $("free").hidden = !free;
  $("back").disabled = current === 0;
  $("next").disabled = current === scenes.length - 1;
  for (const [place, step] of [...$("steps").children].entries()) {
    step.firstChild.toggleAttribute("aria-current", place === current);
    if (place !== current) continue;
    step.firstChild.setAttribute("aria-current", "step");
    // Scrolls only sideways: on a phone, the scenes are a line that scrolls.
    $("steps").scrollLeft = step.offsetLeft - $("steps").clientWidth / 3;
  }
  history.replaceState(null, "", `#${id}`);
  $("links").replaceChildren(...links());
  if (run()?.ended) $("replay").load(run());
  render();
  if (focus) $("scene-title").focus({ preventScroll: true });
  say(`${$("scene-number").textContent}: ${title}. ${says} You will see ${see}`);
}

function links() {
  const { shows, file } = scene();
  const link = (href, text) => h("a", { href }, text);
  return [
    "Behind it: ",
    ...shows.map(([id, what]) => link(`/policies#${id}`, id.startsWith("g") ? `guarantee ${id.toUpperCase()}, ${what}` : what)),
    link(`/source/${file}`, file),
  ];
}

function lanes() {
  if (!run()) return scene().preview;
  const lanes = new Map();
  for (const request of run().requests) {
    const bars = lanes.get(request.lane) ?? [];
    lanes.set(request.lane, [...bars, { from: request.sentAt, to: request.answeredAt ?? run().now(), outcome: drawnAs(run(), request), status: request.lost ? null : request.status }]);
  }
  return [...lanes].map(([label, bars]) => ({ label, bars }));
}

function render() {
  renderPicture();
  renderDetails();
  renderBooks();
}

/** Draws the picture and the verdict above it. This is cheap enough for each frame. */
function renderPicture() {
  const shown = lanes();
  $("axis").model = { lanes: shown, ghost: !run(), picked, cursor: moment, now: run() && !run().ended ? run().now() : null };
  const outcomes = new Set(shown.flatMap((lane) => lane.bars.map((bar) => bar.outcome)));
  $("legend").replaceChildren(...legend(Object.keys(OUTCOMES).filter((outcome) => outcomes.has(outcome))));
  const busy = run() !== null && run().ended === null;
  $("run").disabled = busy || away;
  $("run-label").textContent = busy ? "Running" : run() ? "Run again" : "Run";
  $("replay").hidden = !run()?.ended;
  renderVerdict(busy);
}

function renderDetails() {
  const label = picked === null ? null : lanes()[picked]?.label;
  if (!run() || label === null) return $("details").clear();
  return $("details").show(run(), run().requests.filter((request) => request.lane === label), label);
}

/** All looks into the books, up to the moment that is shown. */
function looks() {
  const all = run()?.history ?? [];
  return moment === null ? all : all.filter((look) => look.at <= moment);
}

function renderBooks() {
  const [before, last] = [looks().at(-2), looks().at(-1)];
  if (last) $("panels").show(last, before ?? { records: [] }, scene().wants);
  else $("panels").empty();
}

function renderVerdict(busy) {
  const verdict = $("verdict");
  const under = busy || moment !== null;
  const ledger = looks().at(-1) ?? null;
  verdict.dataset.state = !run() ? "waiting" : under ? "busy" : judge(ledger);
  if (!run()) {
    $("sentence").textContent = scene() === FREE_PLAY ? "Fill in the form and press R." : "Not run yet. Press R, or Run.";
    $("promise").textContent = "";
    return;
  }
  const extra = under ? "" : (scene().adds?.(run(), ledger) ?? "");
  $("sentence").textContent = [sentence(run(), under ? null : ledger, moment ?? Infinity), extra].filter(Boolean).join(" ");
  const kept = !under && ledger && scene().promise ? scene().promise(run(), ledger) : null;
  const promise = kept ? "As promised." : "The scene’s promise was not kept. The details say why.";
  $("promise").textContent = kept === null ? "" : promise;
  verdict.dataset.promise = kept === null ? "" : String(kept);
}

/** Bad if more money was taken than the client wants, whatever the scene promises. */
function judge(ledger) {
  if (!ledger || scene().wants === null) return "neutral";
  return ledger.captures.filter((line) => line.outcome === "succeeded").length > scene().wants ? "bad" : "good";
}

async function look(of) {
  try {
    const ledger = await readLedger(of);
    // Only looks that differ are kept, so that the last change stays marked.
    if (!same(ledger, of.history.at(-1))) of.history.push(ledger);
    setAway(false);
    return ledger;
  } catch {
    setAway(!(await isServerThere()));
    return null;
  }
}

function setAway(is) {
  if (is === away) return;
  away = is;
  $("away").hidden = !is;
  $("away").textContent = is ? "The server does not answer. The page shows what it saw last, and asks again every few seconds." : "";
  document.body.classList.toggle("server-away", is);
  render();
}

async function start() {
  const playing = scene();
  if (away || (run() && !run().ended)) return;
  const free = playing === FREE_PLAY;
  if (free && !$("free").isReady) return;
  const of = new Run({ wants: playing.wants, purchase: playing.purchase, account: free ? $("free").account : "acme" });
  of.look = () => look(of);
  runs.set(playing.id, of);
  picked = null;
  moment = null;
  of.addEventListener("change", () => {
    if (scene() !== playing) return;
    if (picked !== null) renderDetails();
    soon();
  });
  render();
  say("Running.");
  const watching = watch(of);
  await (free ? $("free").play(of) : playing.play(of));
  of.done = true;
  await watching;
  await look(of);
  of.end();
  if (scene() !== playing) return;
  if (playing.opens && picked === null) picked = lanes().findIndex(({ label }) => label === playing.opens);
  $("replay").load(of);
  render();
  say([$("sentence").textContent, $("promise").textContent].join(" "));
}

async function watch(of) {
  await pause(LOOK_EVERY);
  while (!of.done) {
    await look(of);
    if (run() === of) renderBooks();
    await pause(LOOK_EVERY);
  }
}

/** Draws at the next frame, and goes on while a request is under way. */
let drawing = false;
function soon() {
  if (drawing) return;
  drawing = true;
  const slowly = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const frame = () => {
    drawing = false;
    if (!run()) return;
    renderPicture();
    if (!run().ended) soon();
  };
  if (slowly) setTimeout(frame, 250);
  else requestAnimationFrame(frame);
}

async function idle() {
  for (;;) {
    await pause(LOOK_WHEN_IDLE);
    if (document.hidden) continue;
    const of = run();
    if (!of) setAway(!(await isServerThere()));
    else if (of.ended && (await look(of)) && run() === of) renderBooks();
  }
}

function same(ledger, last) {
  const books = ["records", "orders", "charges", "entitlements", "captures"];
  return last !== undefined && books.every((name) => JSON.stringify(ledger[name]) === JSON.stringify(last[name]));
}

function press(event) {
  const typing = event.target.closest("input:not([type=checkbox], [type=range]), textarea, select");
  if (!$("keys").checked || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = { n: () => show(current + 1), b: () => show(current - 1), r: start }[event.key.toLowerCase()];
  if (does) does();
  else if (/^[1-7]$/.test(event.key)) show(Number(event.key) - 1);
}

function begin() {
  $("steps").append(...scenes.map((step, index) => h("li", {},
    h("a", { href: `#${step.id}`, onclick: (event) => { event.preventDefault(); show(index, { focus: true }); } },
      h("span", { class: "number", "aria-hidden": "true" }, String(index + 1)), step.title))));
  $("back").addEventListener("click", () => show(current - 1, { focus: true }));
  $("next").addEventListener("click", () => show(current + 1, { focus: true }));
  $("run").addEventListener("click", start);
  $("free").addEventListener("play", start);
  $("axis").addEventListener("pick", (event) => {
    picked = event.detail;
    renderPicture();
    renderDetails();
  });
  $("replay").addEventListener("moment", (event) => { moment = event.detail; render(); });
  document.addEventListener("keydown", press);
  $("keys").checked = localStorage.getItem("single-keys") !== "off";
  $("keys").addEventListener("change", () => localStorage.setItem("single-keys", $("keys").checked ? "on" : "off"));
  const wanted = () => Math.max(scenes.findIndex((step) => `#${step.id}` === location.hash), 0);
  window.addEventListener("hashchange", () => show(wanted()));
  show(wanted());
  idle();
}

begin();
