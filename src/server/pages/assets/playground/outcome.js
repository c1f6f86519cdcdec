// What an answer means for a person: the outcome of each request, and one sentence for the whole run. Both are computed from
// the answers and the books.

/** The outcomes, in the order of the legend. `again` is a fresh request that repeats a purchase. */
export const OUTCOMES = {
  fresh: { name: "fresh", says: "The request ran." },
  again: { name: "fresh again", says: "A repeat of the purchase. The request ran, because its key was new." },
  replayed: { name: "replayed", says: "The stored reply, sent again. Nothing ran." },
  flight: { name: "in flight", says: "The outcome is not known yet." },
  refused: { name: "refused", says: "The request was refused and changed nothing." },
  failed: { name: "failed", says: "The request failed, or nobody answered." },
  lost: { name: "lost", says: "The server answered. The browser dropped the answer." },
  aside: { name: "preparation", says: "A request that prepares the scene. Not counted." },
};

/** What a client should do, for each value of the problem's member `retry`. */
export const RETRY = {
  again: "Send the same request with the same key, after Retry-After.",
  fix: "Change something first. The key was not used up.",
  "new-key": "Treat it as the answer. Another attempt needs a new key.",
  never: "Don't send it again. Look at the resource.",
};

/** The last part of a problem's type. */
export function slugOf(request) {
  try {
    return JSON.parse(request.text).type?.split("/").pop() ?? null;
  } catch {
    return null;
  }
}

export function outcomeOf(request) {
  if (request.lost) return "lost";
  if (request.failure !== null || request.status >= 500) return "failed";
  if (request.status === 202 || slugOf(request) === "idempotency-request-in-flight") return "flight";
  if (request.headers["Idempotency-Replayed"] === "true") return "replayed";
  if (request.status === 402) return "failed";
  return request.status >= 400 ? "refused" : "fresh";
}

/** The look of a request: its outcome. But a preparation is grey, and a repeat that ran is red. */
export function drawnAs(run, request) {
  if (request.aside) return "aside";
  if (request.answeredAt === null) return "open";
  if (!run.purchase || request.outcome !== "fresh") return request.outcome;
  const same = run.requests.filter((other) => other.outcome === "fresh" && other.path === request.path);
  const meant = same.find((other) => other.lane === run.requests[0].lane) ?? same[0];
  return meant === request ? "fresh" : "again";
}

/** The requests that count. For clicks, the last request of each click. Only requests that were answered until `until`, in ms. */
function counted(run, until) {
  const requests = run.requests.filter((request) => !request.aside && request.answeredAt !== null && request.answeredAt <= until);
  return run.purchase ? [...new Map(requests.map((request) => [request.lane, request])).values()] : requests;
}

const many = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export function money(amount, currency) {
  const digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
  return `${currency} ${(amount / 10 ** digits).toFixed(digits)}`;
}

/** The money that the gateway took, by the gateway's books. */
export function taken(ledger) {
  const captures = ledger.captures.filter((line) => line.outcome === "succeeded");
  if (captures.length === 0) return "nothing taken";
  const same = captures.every((line) => line.amount === captures[0].amount && line.currency === captures[0].currency);
  if (!same) return `money taken ${captures.length} times`;
  const times = captures.length === 1 ? "once" : `${captures.length} times`;
  return `${money(captures[0].amount, captures[0].currency)} taken ${times}`;
}

/** "10 clicks: 1 fresh, 9 replayed. 1 order, 1 charge, EUR 49.00 taken once." */
export function sentence(run, ledger, until = Infinity) {
  const requests = counted(run, until);
  const parts = Object.keys(OUTCOMES)
    .map((outcome) => [requests.filter((request) => request.outcome === outcome).length, OUTCOMES[outcome].name])
    .filter(([number]) => number > 0)
    .map(([number, name]) => `${number} ${name}`);
  const first = `${many(requests.length, run.purchase ? "click" : "request")}: ${parts.join(", ") || "nothing answered"}.`;
  if (!ledger) return first;
  return `${first} ${many(ledger.orders.length, "order")}, ${many(ledger.charges.length, "charge")}, ${taken(ledger)}.`;
}
