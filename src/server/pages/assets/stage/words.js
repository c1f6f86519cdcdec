// One plain sentence for each step. Words that a visitor doesn't know yet come with what they mean.

import { money } from "./draw.js";

const times = ["never", "once", "twice", "three times"];
export const often = (count) => times[count] ?? `${count} times`;

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
const name = (state, replica) => (Object.keys(state.replicas).length > 1 ? `Replica ${String(replica).toUpperCase()}` : "The server");
const isApart = (state) => state.settings.record === "apart";

const SAYS = {
  up(event, state) {
    return `${name(state, event.replica)} starts again. The new process knows nothing, but the committed rows know what was begun.`;
  },
  died(event, state) {
    return `The process is killed ${pointInWords(event.at, state.settings.record)}. ${lostWith(state)}`;
  },
  sent(event, state) {
    const before = (state.requests.get(event.request) ?? []).at(-2);
    if (before?.status) return `The answer ${before.status} was not final, so the client asks again, under the same key.`;
    if (event.try > 1) return "No answer came, so the client sends the same request again, under the same key.";
    if (state.requests.size > 1) {
      return state.settings.key === "click" ? "Pay is pressed again. The request carries a new key, so it is a new purchase." : "Pay is pressed again. The request carries the same key.";
    }
    return `Pay is pressed. The request carries a name for the purchase: the key ${event.key}.`;
  },
  dropped: (event) => DROPS[event.of],
  no_answer: () => "The client hears nothing. Was the card charged? The client can't know.",
  answered(event, state) {
    if (event.status === 202) return "The answer is 202: the charge is still processing. It is not the final answer, so the client will ask again.";
    if (event.status >= 400) return `The answer is ${event.status}. It is final, and a retry would get the same ${event.bytes} bytes.`;
    if (event.replayed) return `The client gets the first answer again: ${event.status}, and the same ${event.bytes} bytes. Nothing ran twice.`;
    return state.requests.size > 1 && state.settings.key === "click" ? `The client gets its answer: ${event.status}.` : `The client gets the answer: ${event.status}, ${event.bytes} bytes.`;
  },
  waits: (_, state) => `The key is taken. ${state.waiting.length === 1 ? "This request waits" : `${state.waiting.length} requests wait`} in memory, without a database connection.`,
  begins(event, state) {
    if (isApart(state)) return "A transaction begins. There is no lock on the key: this is the naive way.";
    return event.request === null || event.request === undefined ? "The resolver opens a transaction to write down the outcome." : "A transaction begins in PostgreSQL.";
  },
  claimed: (event) => `The transaction locks the key ${event.key}. Whoever comes with the same key must wait.`,
  met_transaction: () => "The key is locked: another transaction is working for it. This request waits and asks again.",
  met_record(event) {
    return event.provisional ? "The key has a record: a charge was begun, and its outcome is not known yet. Nothing is begun again; the request looks again for 6 s." : "The key has a record with the final answer. Nothing runs, the record answers.";
  },
  statement(event, state) {
    if (event.table === "demo.records" && event.verb === "select") return "The server looks whether the key has a record. It takes no lock, so this says nothing about later.";
    if (!event.row && /idempotency/.test(event.table) && openRows(state, event.replica) > 0) return "It locks the record of the key. The final reply will take the place of the provisional one.";
    if (!event.row && /idempotency/.test(event.table)) return "The transaction asks for the key: is it free, is it taken, or does it have a record?";
    if (!event.row) return "The transaction locks the rows that decide, so that nobody changes them meanwhile.";
    const rows = openRows(state, event.replica);
    if (/idempotency|record|key/.test(event.table)) {
      if (isApart(state)) return "The record is written now, in a transaction of its own. Before it, a retry would find nothing.";
      return String(event.row.after).includes("202") || event.row.label.includes("202")
        ? "The record of the key goes into the same transaction, with the answer so far. Nobody else sees any of it."
        : "The outcome and the reply are written together. Until COMMIT, nobody else sees either.";
    }
    return rows === 1 ? "The first row is written. It is dashed: until COMMIT, nobody else sees it." : `${sentenceCase(event.row.label)}: ${rows} rows now, and all of them are still invisible to others.`;
  },
  commit(event, state) {
    const rows = state.transactions.findLast((one) => one.replica === event.replica && one.tx === event.tx)?.rows.length ?? 0;
    if (rows === 0) return "The transaction ends. It has changed nothing.";
    if (isApart(state)) return rows === 1 ? "COMMIT. This row is true now, and the others are not written yet." : `COMMIT. ${rows} rows are true now.`;
    return `COMMIT. All ${rows} rows become true at the same moment, the record among them. The key is free.`;
  },
  rollback: () => "The transaction rolls back. All its rows are gone, at the same moment.",
  leased: (event) => `The resolver, a worker in the background, finds the unfinished call and takes it up: attempt ${event.attempt}.`,
  given_back: () => "The resolver gives the call back, to look again later.",
  call(event, state) {
    if (event.kind === "look_up") return "The server asks the gateway what became of the call.";
    const again = state.calls.filter(({ reference }) => reference === event.reference).length > 1;
    if (isApart(state)) return "The server calls the gateway. It names the call at random, so the gateway can't recognise a repeated one.";
    return again ? "The same call goes out again, under the same key as before." : "The server calls the gateway. No transaction is open while the network waits.";
  },
  gateway(event, state) {
    const taken = `${money(event.amount ?? state.price?.amount ?? 0, event.currency ?? state.price?.currency ?? "EUR")}`;
    if (event.kind === "repeat") return "The gateway has seen this key. It repeats its first answer and takes no money.";
    if (event.kind === "decline") return "The gateway declines the card. No money moves.";
    if (event.kind === "look") return "The gateway says what its books have.";
    if (event.kind === "lost") {
      const known = state.calls.findLast(({ call }) => call === event.call)?.gateway?.kind === "capture";
      return known ? "The gateway's answer never comes. The server can't know that the money moved." : "No answer comes from the gateway. The server can't know whether money moved.";
    }
    const coins = state.calls.filter(({ gateway }) => gateway?.kind === "capture").length;
    return coins > 1 ? `${taken} is taken again. The gateway's books now have ${coins} lines.` : `The gateway takes ${taken}. Its books have a new line.`;
  },
  reply_of_call: () => "The gateway's answer reaches the server. Only this process knows it, and only in memory.",
  end: (event, state) => verdict(event, state),
};

function lostWith(state) {
  const gone = state.transactions.findLast((one) => one.state === "dissolved" && one.rows.length > 0 && one.to === state.count - 1);
  if (gone) return `All ${gone.rows.length} dashed rows are gone at the same moment, as if nothing had been written.`;
  return "What was committed stays. What the process knew only in memory is gone.";
}

const sentenceCase = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** How the run ended, by the gateway's books. */
export function verdict(event, state) {
  if (event.complete === false) return "The run reached its time limit before it was done.";
  const taken = money(state.price?.amount ?? 0, state.price?.currency ?? "EUR");
  if (event.charged === 0) return "The end: nothing was taken, by the gateway's own books.";
  const spent = `${taken} was taken ${often(event.charged)}, by the gateway's own books.`;
  if (event.charged === 1) return `The end: ${spent}`;
  return state.settings.record === "apart" ? `Charged ${often(event.charged)}: ${spent} The record was not in the transaction.` : `Charged ${often(event.charged)}: ${spent} Each click had its own key.`;
}

/** The sentence of a step. `state` is the state right after it. */
export const sentence = (event, state) => SAYS[event.what]?.(event, state) ?? "";


/** What a run was asked to do. */
export function inWords(settings) {
  const words = [settings.clicks === 1 ? "one click" : `${settings.clicks} clicks`, settings.key === "click" ? "a new key each" : "one key"];
  if (settings.replicas === 2) words.push("two replicas");
  if (settings.record === "apart") words.push("the record apart");
  if (settings.drop) words.push(`the ${settings.drop} is lost`);
  if (settings.kill) words.push(`killed ${pointInWords(settings.kill.at, settings.record)}`);
  const text = words.join(", ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
