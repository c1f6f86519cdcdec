// The eight beats, the settings of a run, and how the page's address names them.

export const DEFAULTS = {
  clicks: 1, spacing_ms: 200, key: "purchase", replicas: 1, gateway: "fast", record: "same", kill: null, drop: null, guess: null,
};

/**
 * In the order of the links of `index.html`. Each beat has a recording of the same name, except the last. `ask` is the question that it
 * answers, `how` says what happens in it.
 */
export const BEATS = [
  {
    name: "no-key", settings: { clicks: 2, key: "click", spacing_ms: 1000 },
    ask: "What if you press Pay twice?", how: "Each click sends a request with a new key. To the server, these are two purchases.",
  },
  {
    name: "one-key", settings: { drop: "reply" },
    ask: "What if the answer gets lost?", how: "The client asks again. Both requests have the same key: it is the purchase's name.",
  },
  {
    name: "ten-clicks", settings: { clicks: 10, spacing_ms: 0 },
    ask: "What if you press Pay ten times?", how: "All ten requests come at once, with the same key. One of them does the work.",
  },
  {
    name: "crash-before-commit", settings: { kill: { at: "before-commit-1", replica: "a" } },
    ask: "What if the server dies halfway?", how: "It is killed before COMMIT, the moment at which the database makes its work true.",
  },
  {
    name: "crash-after-capture", settings: { kill: { at: "after-call", replica: "a" } },
    ask: "What if the server dies after you paid?", how: "The gateway has taken the money, and the server had no time to write it down.",
  },
  {
    name: "two-replicas", settings: { clicks: 2, replicas: 2, spacing_ms: 0, gateway: "slow" },
    ask: "What if two servers get the request?", how: "The two servers share only the database.",
  },
  {
    name: "record-apart", settings: { record: "apart", kill: { at: "after-call", replica: "a" } },
    ask: "What if the answer is stored too late?", how: "Here the key's record is written after the charge, not with it. The server dies in between.",
  },
  {
    name: "your-turn", settings: {}, recording: "one-key",
    ask: "Can you get it to charge twice?", how: "Choose what goes wrong, guess, and run it.", alone: "With the server on your own machine, you choose what goes wrong.",
  },
];

export const recordingOf = (beat) => beat.recording ?? beat.name;

/** The places that can break, in the order in which a charge passes them: steps of the work, and what may happen between two. */
export const KILLS = [
  "before-claim", "after-claim", "before-commit-1", "after-commit-1", "before-call", "after-call", "before-commit-2", "after-commit-2",
  "before-answer",
];
export const DROPS = ["request", "reply", "call", "answer"];

const CHOICES = {
  clicks: Array.from({ length: 10 }, (_, index) => String(index + 1)),
  key: ["purchase", "click"],
  replicas: ["1", "2"],
  gateway: ["fast", "slow", "lost-reply", "decline"],
  record: ["same", "apart"],
  drop: DROPS,
};

/** `clicks=1&kill=after-call`: what differs from the defaults, and always the clicks, so that it never names a beat. */
export function linkOf(settings) {
  const parts = new URLSearchParams({ clicks: settings.clicks });
  for (const name of ["key", "replicas", "gateway", "record", "drop"]) {
    if (settings[name] !== DEFAULTS[name]) parts.set(name, settings[name]);
  }
  if (settings.spacing_ms !== DEFAULTS.spacing_ms && settings.clicks > 1) parts.set("spacing", settings.spacing_ms);
  if (settings.kill) {
    parts.set("kill", settings.kill.at);
    if (settings.kill.replica === "b") parts.set("replica", "b");
  }
  return parts.toString();
}

/** Reads an address. What it does not understand stays at its default. `null` if the address names nothing. */
export function read(hash) {
  const text = hash.replace(/^#/, "");
  const beat = BEATS.findIndex(({ name }) => name === text);
  if (beat >= 0) return { beat, settings: { ...DEFAULTS, ...BEATS[beat].settings } };
  const parts = new URLSearchParams(text);
  if (!parts.has("clicks") && !parts.has("kill") && !parts.has("drop")) return null;
  const settings = { ...DEFAULTS };
  for (const [name, choices] of Object.entries(CHOICES)) {
    const value = parts.get(name);
    if (choices.includes(value)) settings[name] = ["clicks", "replicas"].includes(name) ? Number(value) : value;
  }
  const spacing = Number(parts.get("spacing") ?? DEFAULTS.spacing_ms);
  if (Number.isInteger(spacing) && spacing >= 0 && spacing <= 2000) settings.spacing_ms = spacing;
  if (KILLS.includes(parts.get("kill"))) {
    settings.kill = { at: parts.get("kill"), replica: parts.get("replica") === "b" && settings.replicas === 2 ? "b" : "a" };
  }
  return { beat: BEATS.length - 1, settings };
}

/** The beat whose run has these settings, so that a link can be played from a recording. */
export const beatOf = (settings) => BEATS.find((beat) => !beat.recording && linkOf({ ...DEFAULTS, ...beat.settings }) === linkOf(settings));

/** The purchase of a run as a script for a terminal. It sends Pay as often as the run does, and a retry after it. */
export function curlOf(settings, base) {
  const perClick = settings.key === "click";
  const order = `order() {
  curl -s "$api/v1/orders" -H "$auth" -H "$json" -H "Idempotency-Key: $(new_key)" \\
    -d '{"customer":"ada","items":[{"sku":"pro-monthly","quantity":1}]}' | sed 's/.*"id":"\\([^"]*\\)".*/\\1/'
}`;
  const pay = `pay() { # order, key
  curl -si "$api/v1/charges" -H "$auth" -H "$json" -H "Idempotency-Key: $2" \\
    -d "{\\"order_id\\":\\"$1\\",\\"payment_method\\":\\"${METHODS[settings.gateway]}\\"}"
  echo
}`;
  const clicks = settings.clicks > 1 ? settings.clicks : 2;
  const body = perClick
    ? `for click in $(seq ${clicks}); do pay "$(order)" "$(new_key)"; done`
    : `order=$(order) key=$(new_key)\nfor click in $(seq ${clicks}); do pay "$order" "$key"; done # one charge, the same bytes`;
  return `#!/bin/sh
# The purchase of this run with curl.
api=${base} auth='Authorization: Bearer sk_demo_acme' json='Content-Type: application/json'
new_key() { od -An -N16 -tx1 /dev/urandom | tr -d ' \\n'; }
${order}
${pay}
${body}
curl -s "$api/v1/charges?limit=${perClick ? clicks : 1}" -H "$auth"
`;
}

const METHODS = { fast: "pm_card_visa", slow: "pm_card_slow", "lost-reply": "pm_card_lost_reply", decline: "pm_card_visa_chargeDeclined" };
