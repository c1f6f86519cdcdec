// The client's half, in TypeScript with Node's fetch: store the key, send, and do what `retry` says. Copy this file into your service.
//
//     echo '{"decision": "order 7", "path": "/v1/orders", "body": {"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}]}}' |
//         BASE=http://127.0.0.1:8080 API_KEY=sk_demo_acme npx tsx client.mts
//
// Run it twice: the second run gets the same answer. docs/clients.md says why each rule is as it is. Node 20 or later;
// `pg`, to keep the keys in PostgreSQL.

import { createHash, randomUUID } from "node:crypto";
import { link, mkdir, open, readdir, readFile, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const LONGEST = 1 << 20; // bytes of one answer; the API's answers have a few kilobytes
const FIRST_PAUSE = 200; // milliseconds; doubles with each sending

/**
 * How a decision ended. done: it took effect once, and `body` is the object. no: it has no effect, and `body` is the problem that
 * says why. unknown: call `post` again later with the same decision. Only where `body` has `"retry": "never"`, look at its
 * `resource` instead.
 */
export type Result = { outcome: "done" | "no" | "unknown"; key: string; status?: number; body?: Json };
export type Json = Record<string, unknown>;

/** Where the keys are kept. What `begin` has written survives a crash of this process and of its machine. */
export interface Store {
  /** The key of the decision, the same for every process, and a mark that a request is about to be sent. */
  begin(decision: string, request: string): Promise<{ key: string; mark: string }>;
  /** Removes the mark: each sending was answered. False if other runs of the decision left theirs. */
  end(mark: string): Promise<boolean>;
}

/** A folder for each decision. For one machine, on a file system with hard links. */
export class FileStore implements Store {
  constructor(private root: string) {}

  async begin(decision: string, request: string) {
    const folder = join(this.root, sha256(decision));
    await mkdir(folder, { recursive: true });
    const mark = join(folder, `open-${randomUUID()}`);
    const file = await open(mark, "wx");
    await file.writeFile(`${randomUUID()} ${request}\n`);
    await file.sync();
    await file.close();
    let whole: RegExpExecArray | null = null;
    for (let number = 0; whole === null; number++) {
      // A link is created whole or not at all, by one process only. What a crash left empty or incomplete is skipped.
      const note = join(folder, `key-${number}`);
      await link(mark, note).catch((error) => {
        if (error.code !== "EEXIST") throw error;
      });
      whole = /^([0-9a-f-]{36}) ([0-9a-f]{64})\n$/.exec(await readFile(note, "utf8"));
    }
    if (whole[2] !== request) {
      await unlink(mark);
      throw new Error(`another request was sent for this decision: ${decision}`);
    }
    for (const changed of [folder, this.root]) {
      const directory = await open(changed);
      await directory.sync();
      await directory.close();
    }
    return { key: whole[1], mark };
  }

  async end(mark: string) {
    await unlink(mark);
    const left = await readdir(dirname(mark));
    return !left.some((name) => name.startsWith("open-") && name !== basename(mark));
  }
}

/** A row of the table in docs/clients.md for each decision. `query` is a pool's or a client's of `pg`, outside any transaction. */
export class SqlStore implements Store {
  constructor(private query: (text: string, values: unknown[]) => Promise<{ rows: any[] }>) {}

  async begin(decision: string, request: string) {
    const { rows } = await this.query(
      `INSERT INTO decisions (decision, key, request, open_runs) VALUES ($1, $2, $3, 1)
       ON CONFLICT (decision) DO UPDATE SET open_runs = decisions.open_runs + 1
       WHERE decisions.request = excluded.request RETURNING key`,
      [decision, randomUUID(), request],
    );
    if (rows.length === 0) throw new Error(`another request was sent for this decision: ${decision}`);
    return { key: rows[0].key as string, mark: decision };
  }

  async end(mark: string) {
    const { rows } = await this.query(
      "UPDATE decisions SET open_runs = open_runs - 1 WHERE decision = $1 RETURNING open_runs",
      [mark],
    );
    return rows[0].open_runs === 0;
  }
}

/** Times are in milliseconds. `pause` is the longest pause between two sendings, whatever Retry-After says. */
export class Client {
  constructor(
    private base: string,
    private apiKey: string,
    private store: Store,
    private limits = { answer: 15_000, pause: 10_000, deadline: 60_000 },
  ) {}

  /** Carries out one decision once. `decision` is your name for it, such as "pay order 7": a new decision, a new name. */
  async post(path: string, body: Json, decision: string): Promise<Result> {
    const text = JSON.stringify(body);
    const { key, mark } = await this.store.begin(decision, sha256(`${path}\n${text}`));
    const end = performance.now() + this.limits.deadline;
    let [backoff, unanswered] = [FIRST_PAUSE, false];
    for (;;) {
      const answer = await this.send(path, text, key, Math.min(this.limits.answer, end - performance.now()));
      const advice = answer && adviceOf(answer);
      unanswered ||= !advice;
      const asked = Math.min(milliseconds(answer?.headers.get("Retry-After") ?? ""), this.limits.pause);
      const pause = Math.max(asked, backoff / 2) + (Math.random() * backoff) / 2;
      if ((advice && advice !== "again") || performance.now() + pause >= end) {
        // While a sending may still be on its way, it may still take effect. Then `fix` is not an answer.
        const alone = !unanswered && (await this.store.end(mark));
        const no = advice === "new-key" || (advice === "fix" && alone);
        return { outcome: advice === "done" ? "done" : no ? "no" : "unknown", key, status: answer?.status, body: answer?.body };
      }
      await new Promise((resume) => setTimeout(resume, pause));
      backoff = Math.min(backoff * 2, this.limits.pause);
    }
  }

  /** One sending. Undefined if no whole answer came in time: the request may have taken effect or not. */
  private async send(path: string, body: string, key: string, limit: number): Promise<Answer | undefined> {
    const own = { Authorization: `Bearer ${this.apiKey}`, "Content-Type": "application/json", "Idempotency-Key": key };
    // A connection for each sending: what a proxy left on a connection can't become the answer to another request.
    const headers = { ...own, Connection: "close" };
    try {
      // The limit covers the body too.
      const signal = AbortSignal.timeout(Math.max(limit, 1));
      const response = await fetch(this.base + path, { method: "POST", headers, body, signal, redirect: "manual" });
      const pieces: Uint8Array[] = [];
      let length = 0;
      for await (const piece of response.body ?? []) {
        pieces.push(piece);
        // Leaving the loop closes the connection.
        if ((length += piece.length) > LONGEST) return undefined;
      }
      return { status: response.status, headers: response.headers, body: object(Buffer.concat(pieces).toString()) };
    } catch {
      return undefined;
    }
  }
}

type Answer = { status: number; headers: Headers; body?: Json };
type Advice = "done" | "again" | "fix" | "new-key" | "never";

/** `done`, or the API's own advice. Undefined if this is not a final answer, or not the API's. */
function adviceOf({ status, headers, body }: Answer): Advice | undefined {
  if (body === undefined) return undefined;
  if (status >= 200 && status < 300) return status !== 202 && headers.has("Idempotency-Expires") ? "done" : undefined;
  const mediaType = (headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  if (mediaType !== "application/problem+json") return undefined;
  return (["again", "fix", "new-key", "never"] as const).find((advice) => advice === body.retry);
}

/** What Retry-After says, a number or a date. 0 if it says nothing that makes sense. */
function milliseconds(retryAfter: string): number {
  const time = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - Date.now();
  return time > 0 ? time : 0;
}

function object(text: string): Json | undefined {
  try {
    const body = JSON.parse(text);
    return typeof body === "object" && body !== null && !Array.isArray(body) ? body : undefined;
  } catch {
    return undefined;
  }
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Reads decisions from the standard input, one JSON object per line, and prints how each ended. The hostile proxy drives this. */
async function main() {
  const env = process.env;
  const where = env.STORE ?? "keys";
  let store: Store = new FileStore(where);
  if (where.startsWith("postgresql:")) {
    const pool = new (await import("pg")).default.Pool({ connectionString: where });
    store = new SqlStore((text, values) => pool.query(text, values));
  }
  const limits = {
    answer: Number(env.ANSWER_SECONDS ?? 15) * 1000,
    pause: Number(env.PAUSE_SECONDS ?? 10) * 1000,
    deadline: Number(env.DEADLINE_SECONDS ?? 60) * 1000,
  };
  const client = new Client(env.BASE!, env.API_KEY!, store, limits);
  for await (const line of createInterface({ input: process.stdin })) {
    const { decision, path, body } = JSON.parse(line);
    console.log(JSON.stringify(await client.post(path, body, decision)));
  }
  process.exit();
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main();
