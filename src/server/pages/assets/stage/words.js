// One plain sentence for each step. Words that a visitor doesn't know yet come with what they mean.

import { money, often } from "./figures.js";

const POINTS = {
  "before-claim": "before it asked for the key",
  "after-claim": "with the key locked and nothing written",
  "before-commit-1": "with its rows written and not committed",
  "after-commit-1": "after the first COMMIT",
  "before-call": "just before it called the gateway",
  "after-call": "after the money moved, before the outcome was written",
  "before-commit-2": "with the outcome written and not committed",
  "after-commit-2": "after the outcome was committed",
  "before-answer": "before the client got its answer",
};
/** The naive way has the same points, and two COMMITs with another meaning. */
const APART = {
  "before-commit-1": "with the charge written and not committed", "after-commit-1": "after the charge was committed, before its record was",
  "before-commit-2": "with the record written and not committed", "after-commit-2": "after the record was committed",
};
export const pointInWords = (name, record) => (record === "apart" && APART[name]) || POINTS[name] || `at ${name}`;

const DROPS = {
  request: "The request is lost on its way. The server never hears of it.",
  reply: "The server's reply is lost on its way. The client can't know whether it was charged.",
  call: "The call to the gateway is lost on its way. No money moves.",
  answer: "The gateway's answer is lost on its way. The server can't know whether money moved.",
};
export const dropInWords = (of) => DROPS[of];

const openRows = (state, replica) => state.transactions.find((one) => one.replica === replica && one.state === "open")?.rows.length ?? 0;
const name = (state, replica) => (Object.keys(state.replicas).length > 1 ? `Server ${String(replica).toUpperCase()}` : "The server");
const isApart = (state) => state.settings.record === "apart";
const taken = ({ price }) => money(price?.amount ?? 0, price?.currency ?? "EUR");
const sentenceCase = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Whether the request has written and committed something before: then its next transaction writes down the outcome. */
const hasBegun = (state, request) =>
  state.transactions.some((one) => one.request === request && one.state === "committed" && one.rows.length > 0);

const SAYS = {
  up: (event, state) => `${name(state, event.replica)} starts again. The new process remembers nothing, but the database has what was committed.`,
  died: (event, state) => `The process is killed ${pointInWords(event.at, state.settings.record)}. ${lostWith(state)}`,
  sent(event, state) {
    const before = (state.requests.get(event.request) ?? []).at(-2);
    if (before?.status) return `The answer ${before.status} was not final, so the client asks again, with the same key.`;
    if (event.try > 1) return "No answer came, so the client sends the same request again, with the same key.";
    if (state.requests.size > 1) {
      return state.settings.key === "click" ? "Pay is pressed again. This request has a new key, so to the server it is a new purchase." : "Pay is pressed again. The request has the same key.";
    }
    return `Pay is pressed. The request carries a key, the purchase's name: ${event.key}.`;
  },
  dropped: (event) => DROPS[event.of],
  no_answer: () => "The client hears nothing. Was the card charged? It can't know.",
  answered(event, state) {
    if (event.status === 202) return "The answer is 202: the payment is not finished. This is not final, so the client will ask again.";
    if (event.status >= 400) return `The answer is ${event.status}. It is final: a retry would get the same ${event.bytes} bytes.`;
    if (event.replayed) return `The client gets the stored answer, byte for byte: ${event.status}, ${event.bytes} bytes. Nothing ran twice.`;
    return state.requests.size > 1 && state.settings.key === "click" ? `The client gets its answer: ${event.status}.` : `The client gets the answer: ${event.status}, ${event.bytes} bytes.`;
  },
  waits: (_, state) => `The key is taken. ${state.waiting.length === 1 ? "This request waits" : `${state.waiting.length} requests wait`} in memory, without a database connection.`,
  begins(event, state) {
    if (isApart(state)) return "A transaction begins. Nothing locks the key: this is the naive way.";
    if (event.request === null || event.request === undefined) return "The resolver opens a transaction to write down the outcome.";
    if (hasBegun(state, event.request)) return "A second transaction begins, to write down how the payment went.";
    return "A transaction begins in PostgreSQL, the database: all that follows becomes true together, or not at all.";
  },
  claimed: (event) => `The transaction locks the key ${event.key}. Any other request with this key must wait.`,
  met_transaction: () => "The key is locked: the server is working on another request with it. This one waits and asks again.",
  met_record(event) {
    return event.provisional ? "The key has a record: the payment was begun, and its outcome is not known yet. Nothing is begun again; the request waits for the outcome, up to 6 s." : "The key has a record with the final answer. Nothing runs again: the record answers.";
  },
  statement(event, state) {
    const isRecord = /idempotency|record|key/.test(event.table);
    const rows = openRows(state, event.replica);
    if (event.table === "demo.records" && event.verb === "select") return "The server looks for a record of the key. It locks nothing, so what it sees may be out of date a moment later.";
    if (!event.row && isRecord) {
      return rows > 0 ? "It locks the record of the key. The final answer will replace the one for now." : "The transaction asks for the key: is it free, is it taken, or does it have a record?";
    }
    if (!event.row) return "It locks the rows that it depends on, so that nobody changes them meanwhile.";
    if (isRecord && isApart(state)) return "The record of the key is written only now, in another transaction. Until now, a retry found nothing.";
    if (isRecord) {
      return String(event.row.after).includes("202") || event.row.label.includes("202")
        ? "The record of the key goes into the same transaction, with the answer for now: not finished. Nobody else sees any of it."
        : "The outcome and the answer are written together. Until COMMIT, nobody else sees either.";
    }
    return rows === 1 ? "The first row is written. It is dashed: until COMMIT, nobody else sees it." : `${sentenceCase(event.row.label)}: ${rows} rows so far, and nobody else sees any of them.`;
  },
  commit(event, state) {
    const rows = state.transactions.findLast((one) => one.replica === event.replica && one.tx === event.tx)?.rows.length ?? 0;
    if (rows === 0) return "The transaction ends. It has changed nothing.";
    if (isApart(state)) return rows === 1 ? "COMMIT. This row is true now, and the others are not written yet." : `COMMIT. ${rows} rows are true now.`;
    return `COMMIT. All ${rows} rows become true at the same moment, the record of the key among them.`;
  },
  rollback: () => "The transaction rolls back. All its rows are gone, at the same moment.",
  leased: (event) => `The resolver, a worker in the background, finds the unfinished payment and takes it up: attempt ${event.attempt}.`,
  given_back: () => "The resolver puts the payment back, to look again later.",
  call(event, state) {
    if (event.kind === "look_up") return "The server asks the gateway what became of the call.";
    const again = state.calls.filter(({ reference }) => reference === event.reference).length > 1;
    if (isApart(state)) return "The server asks the gateway for the money, under a random name. So the gateway can't recognise a repeated call.";
    return again ? "The same call goes out again, with the same key as before." : "The server asks the payment gateway for the money. No transaction is open while it waits.";
  },
  gateway(event, state) {
    if (event.kind === "repeat") return "The gateway has seen this key. It repeats its first answer and takes no money.";
    if (event.kind === "decline") return "The gateway declines the card. No money moves.";
    if (event.kind === "look") return "The gateway says what its books have.";
    if (event.kind === "lost") {
      const known = state.calls.findLast(({ call }) => call === event.call)?.gateway?.kind === "capture";
      return known ? "The gateway's answer never comes. The server can't know that the money moved." : "No answer comes from the gateway. The server can't know whether money moved.";
    }
    const sum = event.amount ? money(event.amount, event.currency) : taken(state);
    const coins = state.calls.filter(({ gateway }) => gateway?.kind === "capture").length;
    return coins > 1 ? `The gateway takes ${sum} again. Its books now have ${coins} lines.` : `The gateway takes ${sum} from the card. Its books have a new line.`;
  },
  reply_of_call: () => "The gateway's answer reaches the server. Only this process knows it so far, in its memory.",
  end: (event, state) => verdict(event, state),
};

function lostWith(state) {
  const gone = state.transactions.findLast((one) => one.state === "dissolved" && one.rows.length > 0 && one.to === state.count - 1);
  if (gone) return `All ${gone.rows.length} dashed rows are gone at the same moment, as if nothing had been written.`;
  return "What was committed stays. What the process knew only in memory is gone.";
}

/** How the run ended, by the gateway's books, and why. */
export function verdict(event, state) {
  if (event.complete === false) return "The run reached its time limit before it was done.";
  if (event.charged === 0) return "The end: nothing was taken, by the gateway's own books.";
  const spent = `${taken(state)} was taken ${often(event.charged)}, by the gateway's own books.`;
  return `${event.charged === 1 ? "The end" : `Charged ${often(event.charged)}`}: ${spent} ${because(event, state)}`.trim();
}

function because({ charged }, state) {
  const tries = [...state.requests.values()].flat();
  if (charged > 1) return isApart(state) ? "The record of the key was not written together with the charge." : "With a new key each, the server had to take the clicks for different purchases.";
  if (state.calls.some(({ gateway }) => gateway?.kind === "repeat")) return "The call was repeated with the same key, so the gateway knew it and took nothing.";
  if (tries.some(({ replayed, status }) => replayed && status !== 202)) return "Whoever asked again with the key got the stored answer.";
  if (state.transactions.some((one) => one.state === "dissolved" && one.rows.length > 0)) return "Nothing of the killed attempt was left, so the retry was the first to pay.";
  return "";
}

/** The sentence of a step. `state` is the state right after it. */
export const sentence = (event, state) => SAYS[event.what]?.(event, state) ?? "";

/** What a run was asked to do. */
export function inWords(settings) {
  const words = [settings.clicks === 1 ? "one click" : `${settings.clicks} clicks`, settings.key === "click" ? "a new key each" : "one key"];
  if (settings.replicas === 2) words.push("two servers");
  if (settings.record === "apart") words.push("the record written afterwards");
  if (settings.drop) words.push(`the ${settings.drop} is lost`);
  if (settings.kill) words.push(`killed ${pointInWords(settings.kill.at, settings.record)}`);
  return sentenceCase(words.join(", "));
}
