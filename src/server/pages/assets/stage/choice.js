// The visitor's settings for the next run, and the guess.

import { DEFAULTS } from "./beats.js";
import { byId, say } from "./dom.js";
import { dropInWords, pointInWords } from "./words.js";

const form = byId("settings");
const NUMBERS = ["clicks", "replicas", "spacing_ms"];

let settings = { ...DEFAULTS };

export const chosen = () => settings;

/** What is chosen, with the guess. */
export function chosenWithGuess() {
  const picked = byId("guess").querySelector("input:checked");
  return { ...settings, guess: picked ? Number(picked.value) : null };
}

/** Puts settings into the form. */
export function choose(wanted) {
  settings = { ...wanted, guess: null };
  const { kill, drop, record, clicks } = settings;
  for (const select of form.querySelectorAll("select")) select.value = String(settings[select.name]);
  form.classList.toggle("many", clicks > 1);
  const broken = kill ? `kill: ${kill.at}${kill.replica === "b" ? " of B" : ""}` : `lost: ${drop}`;
  const mend = byId("mend");
  mend.hidden = !kill && !drop;
  say(mend, `${broken} ×`);
  mend.setAttribute("aria-label", `${broken}. Take this away`);
  say(byId("guess-what"), kill ? `The process is killed ${pointInWords(kill.at, record)}.` : drop ? `${dropInWords(drop).split(". ")[0]}.` : "Your guess first.");
  for (const answer of answers()) answer.classList.remove("right-guess", "wrong-guess");
}

const answers = () => byId("guess").querySelectorAll(".answers label");

/** Marks the guess. Says whether it was right. */
export function compare(guess, charged) {
  const right = Math.min(charged, 2) === guess;
  for (const answer of answers()) {
    const picked = answer.firstElementChild.checked;
    answer.classList.toggle("right-guess", picked && right);
    answer.classList.toggle("wrong-guess", picked && !right);
  }
  say(byId("guess-what"), right ? "You guessed it." : "It went otherwise.");
  return right;
}

form.addEventListener("change", ({ target: { name, value } }) => {
  const next = { ...settings, [name]: NUMBERS.includes(name) ? Number(value) : value };
  if (next.replicas === 1 && next.kill?.replica === "b") next.kill = { ...next.kill, replica: "a" };
  choose(next);
});
form.addEventListener("submit", (submit) => submit.preventDefault());
byId("mend").addEventListener("click", () => {
  choose({ ...settings, kill: null, drop: null });
  form.querySelector("select").focus();
});
