// The page: which run is shown, and runs on this server.

import { BEATS, DEFAULTS, beatOf, curlOf, linkOf, read, recordingOf } from "./beats.js";
import { choose, chosen, chosenWithGuess, compare } from "./choice.js";
import { byId, icon, make, memory, say, svg } from "./dom.js";
import { Refused, back, recording, run } from "./live.js";
import { replayOpening } from "./opening.js";
import { codeLink } from "./code.js";
import { Player } from "./player.js";
import { count, drawMap, drawScore } from "./score.js";
import { Show } from "./show.js";
import { copy, dialog, save } from "./share.js";
import { inWords, verdict } from "./words.js";

const root = document.documentElement;
/** The server marks the page. On a static host there are only recordings. */
const hasServer = root.hasAttribute("data-server");

const CLAIM = byId("how").textContent;

const player = new Player(changed);
const show = new Show(player, broke);
show.code = (event, state) => byId("code").replaceChildren(...codeLink(show.stage, hasServer, event, state));
const seen = new Set(memory.get("seen") ?? []);

let beat = 0;
let shown = { ...DEFAULTS };
/** A live run whose end was not counted yet, with the guess. */
let open = null;
let running = false;
let gone = false;
/** Each load of a run has a number, so that a late answer does not replace a newer run. */
let load = 0;

function changed(reason) {
  show.render(reason);
  const button = byId("play");
  const playing = player.playing ? "Pause" : "Play";
  if (button.getAttribute("aria-label") !== playing) {
    button.setAttribute("aria-label", playing);
    button.replaceChildren(icon(player.playing ? "pause" : "play"));
  }
  if (player.atEnd && !running) ended();
}

/** The last step was reached: the run counts, and the guess is compared. */
function ended() {
  if (BEATS[beat].name !== "your-turn" || open) seenBeat();
  const last = show.last;
  if (!open || !last?.end) return;
  const { settings } = open;
  open = null;
  count(settings, last.end);
  drawPlaces();
  if (settings.guess === null) return;
  const right = compare(settings.guess, last.end.charged);
  say(byId("live"), `${verdict(last.end, last)} ${right ? "You guessed it." : "You guessed otherwise."}`);
}

function seenBeat() {
  if (seen.has(beat)) return;
  seen.add(beat);
  memory.set("seen", [...seen]);
  drawBeats();
}

function drawBeats() {
  const list = byId("beats");
  const told = root.classList.contains("told");
  root.classList.toggle("tuning", BEATS[beat].name === "your-turn");
  const { ask, how, alone } = BEATS[beat];
  say(byId("ask"), told ? ask : "");
  say(byId("how"), told ? ((!hasServer && alone) || how) : CLAIM);
  Array.from(list.querySelectorAll("a"), (link, index) => {
    if (told && index === beat) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    if (seen.has(index) && !link.querySelector(".done")) link.append(svg("svg", { class: "done", viewBox: "0 0 12 10", "aria-hidden": "true" }, svg("path", { d: "M1.5 5.2l3 3L10.5 1.6" })), make("span", { class: "away-from-eyes" }, "(seen)"));
  });
  if (told) list.children[beat]?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** The address says what is shown. Without anything, it is the opening. */
async function route() {
  const found = read(location.hash);
  const isOpening = found === null;
  root.classList.toggle("told", !isOpening);
  byId("opening").classList.toggle("plays", isOpening);
  if (isOpening) {
    player.stop();
    return drawBeats();
  }
  if (running && linkOf(found.settings) === linkOf(shown)) return drawBeats();
  beat = found.beat;
  choose(found.settings);
  drawBeats();
  const known = BEATS[beat].recording ? beatOf(found.settings) : BEATS[beat];
  return playRecording(known ? recordingOf(known) : recordingOf(BEATS[beat]));
}

async function playRecording(name) {
  const number = (load += 1);
  byId("body").setAttribute("aria-busy", "true");
  settle();
  try {
    const events = await recording(name);
    if (number !== load) return;
    shown = { ...DEFAULTS, ...events[0]?.settings };
    show.load(events);
    label("a recorded run");
    player.play();
  } catch (error) {
    if (number === load) notice(`The recording can't be loaded: ${error.message}. Try again in a while.`);
  } finally {
    if (number === load) byId("body").removeAttribute("aria-busy");
  }
}

function label(how) {
  say(byId("recorded"), how);
  say(byId("alone-run"), `${inWords(shown)}.`);
}

/** A live run that is left before its end counts all the same. */
function settle() {
  if (!open || running) return;
  if (show.last?.end) count(open.settings, show.last.end);
  open = null;
}

/** A bolt, a cross or a place of the map was pressed. */
function broke({ kill = null, drop = null }) {
  choose({ ...chosen(), kill, drop, replicas: kill?.replica === "b" ? 2 : chosen().replicas });
  start();
}

async function start() {
  if (running || gone) return;
  running = true;
  settle();
  const settings = chosenWithGuess();
  shown = settings;
  load += 1;
  byId("body").removeAttribute("aria-busy");
  beat = BEATS.indexOf(beatOf(settings) ?? BEATS.at(-1));
  const hash = `#${address(settings)}`;
  if (location.hash !== hash) history.pushState(null, "", hash);
  root.classList.add("told");
  choose(settings);
  drawBeats();
  const events = [];
  let begun = false;
  let waiting = false;
  const grow = () => {
    waiting = false;
    if (!begun && events.some(({ what }) => what === "sent")) {
      begun = true;
      open = { settings };
      show.load([...events], true);
      label("runs right now, on this server");
      player.play();
    } else if (begun) show.grow([...events], running);
  };
  busy(true);
  const beganAt = performance.now();
  const tells = setInterval(() => label(`runs right now: ${Math.round((performance.now() - beganAt) / 1000)} s`), 1_000);
  try {
    await run(settings, (event) => {
      events.push(event);
      if (!waiting) requestAnimationFrame(grow);
      waiting = true;
    });
    running = false;
    clearInterval(tells);
    grow();
    label("run just now, on this server");
    notice("");
  } catch (error) {
    running = false;
    clearInterval(tells);
    if (begun) grow();
    if (error instanceof Refused) notice(error.message);
    else away();
  }
  busy(false);
  changed("state");
}

function busy(is) {
  const button = byId("run");
  button.setAttribute("aria-disabled", String(is || gone));
  say(button, is ? "Running …" : "Run it now");
}

/** Says that the server is gone, and goes on when it is back. */
async function away() {
  gone = true;
  usable();
  notice("The server does not answer. What you see was recorded before. The page goes on when the server is back.");
  await back();
  gone = false;
  usable();
  notice("The server is back. Run it again.");
  setTimeout(() => notice(""), 6_000);
}

function usable() {
  show.usable = root.hasAttribute("data-server") && !gone && Boolean(show.stage);
  busy(running);
  show.drawBreaks();
  drawPlaces();
}

const drawPlaces = () => drawMap(show.usable, (what) => {
  broke(what);
  byId("body").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
});

function notice(text) {
  say(byId("notice"), text);
  byId("notice").hidden = text === "";
}

async function learn() {
  try {
    const answer = await fetch(hasServer ? "/demo/stage" : new URL("./recordings/stage.json", import.meta.url), { signal: AbortSignal.timeout(10_000) });
    if (answer.ok) show.stage = await answer.json();
    // A server may have the page and no stage: then the page plays recordings, as on a static host.
    else root.removeAttribute("data-server");
  } catch {
    if (hasServer) return away();
  }
  return undefined;
}

const address = (settings) => beatOf(settings)?.name ?? linkOf(settings);

function listen() {
  byId("play").addEventListener("click", () => player.toggle());
  byId("first").addEventListener("click", () => player.go(0));
  byId("back").addEventListener("click", () => player.go(player.step - 1));
  byId("on").addEventListener("click", () => player.go(player.step + 1));
  byId("scrub").addEventListener("input", (input) => player.go(Number(input.target.value)));
  document.querySelectorAll("[name=pace]").forEach((radio) => radio.addEventListener("change", () => {
    player.pace = Number(radio.value);
    show.render("frame");
  }));
  byId("guess").addEventListener("submit", (submit) => {
    submit.preventDefault();
    start();
  });
  byId("start").addEventListener("click", () => {
    location.hash = BEATS[0].name;
    byId("beats").querySelector("a").focus();
  });
  byId("copy-link").addEventListener("click", ({ target }) => copy(`${location.href.split("#")[0]}#${address(chosen())}`, target, "The link to this run"));
  byId("copy-curl").addEventListener("click", () => dialog("This purchase with curl", curlOf(chosen(), location.origin)));
  byId("as-svg").addEventListener("click", async () => {
    const name = `${address(shown)}-step-${player.step + 1}.svg`;
    try {
      save(await show.picture(beatOf(shown)?.ask ?? inWords(shown)), "image/svg+xml", name);
    } catch (error) {
      notice(`The picture can't be made: ${error.message}. Try again in a while.`);
    }
  });
  addEventListener("hashchange", route);
  addEventListener("keydown", (key) => {
    const inControl = key.target.closest?.("button, a, input, select, dialog, summary");
    if (key.key !== " " || inControl || key.ctrlKey || key.metaKey || key.altKey) return;
    key.preventDefault();
    if (root.classList.contains("told")) player.toggle();
    else replayOpening();
  });
}

drawScore();
listen();
route();
await learn();
usable();
