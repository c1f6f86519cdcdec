// Runs on this server: starts a run, reads its events, and notices when the server is gone.

/** A run ends after 40 s. A stream that is silent for longer has lost its server, which sends something every second. */
const SILENCE = 8_000;
const RUN_LIMIT = 60_000;

/** How often the page tries a server that was gone. */
const ASK_AGAIN = 2_000;

/** A line is at most a page's worth of rows. */
const LINE_LIMIT = 256 * 1024;

/** Why a run did not start, in words. */
export class Refused extends Error {}

/**
 * Runs once. `heard(event)` gets each event. Resolves when the stream has ended.
 * Throws `Refused` if the server refuses, and another error if it is gone.
 */
export async function run(settings, heard) {
  const leave = new AbortController();
  const limit = setTimeout(() => leave.abort(), RUN_LIMIT);
  let silence = setTimeout(() => leave.abort(), SILENCE);
  try {
    const answer = await fetch("/demo/runs", {
      method: "POST", body: JSON.stringify(settings), signal: leave.signal,
      headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    });
    if (!answer.ok) throw new Refused(await refusal(answer));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => leave.abort(), SILENCE);
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      if (rest.length > LINE_LIMIT) throw new Error("a line of the stream is too long");
      for (const line of lines) if (line.startsWith("data:")) heard(JSON.parse(line.slice(5)));
    }
  } finally {
    clearTimeout(limit);
    clearTimeout(silence);
    leave.abort();
  }
}

async function refusal(answer) {
  const after = Number(answer.headers.get("Retry-After"));
  if (after > 0) return `Other visitors are running the stage right now. Try again in ${after} s.`;
  const problem = await answer.json().catch(() => ({}));
  return `The server does not run this: ${problem.detail ?? `it answers ${answer.status}`}.`;
}

/** Resolves when the server answers again. */
export async function back() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN));
    try {
      const answer = await fetch("/health/live", { cache: "no-store", signal: AbortSignal.timeout(ASK_AGAIN) });
      if (answer.ok) return;
    } catch {
      // Still gone.
    }
  }
}

/** A recording: one event a line. A line that was cut off at the end is left out. */
export async function recording(name) {
  const answer = await fetch(new URL(`./recordings/${name}.jsonl`, import.meta.url), { signal: AbortSignal.timeout(20_000) });
  if (!answer.ok) throw new Error(`the recording ${name} is missing`);
  return parse(await answer.text());
}

export function parse(text) {
  const events = [];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    try {
      events.push(JSON.parse(line));
    } catch {
      break;
    }
  }
  return events;
}
