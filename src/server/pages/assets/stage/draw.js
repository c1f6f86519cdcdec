// The stage as a list of pictures, from the state alone. `last` is the state after all events: it only says how far an arrow goes
// and how large a box will be.

import { transactions } from "./boxes.js";
import { milliseconds, money } from "./figures.js";
import { MARKS, arrow, disc, extentOf, label, rectangle } from "./geometry.js";

const clamp = (value) => Math.min(Math.max(value, 0), 1);

/** The answer's bytes as a pattern: twelve bars, one for each digit of their digest. Equal bytes look equal. */
function strip(view, key, u, digest) {
  const bars = Array.from(digest ?? "", (digit, index) => {
    const height = 2 + (Number.parseInt(digit, 16) / 15) * 8;
    return `M${index - 6 + 0.5} 0V${(-height).toFixed(1)}`;
  });
  const [x, y] = view.down ? [view.lanes.client + 14, u + 5] : [u, view.lanes.client - 9];
  return { key, tag: "path", attributes: { class: "strip", d: bars.join(""), transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` } };
}

export function draw(events, state, last, scale, view, now) {
  const { place } = scale;
  const crowded = last.requests.size > 3;
  const at = (index) => place[index];
  const progress = (from, to) => clamp((now - at(from)) / Math.max(at(to) - at(from), 1));
  return [
    ...lanes(view, scale),
    ...replicas(events, view, state, scale, now),
    ...ghosts(view, state, last, at),
    ...calls(view, state, last, at, progress),
    ...transactions(view, scale, state, last, now, crowded),
    ...rooms(view, state, at, now),
    ...requests(view, state, last, at, progress, crowded),
    ...cursor(events, view, now, extentOf(view, scale), state),
  ];
}

function lanes(view, scale) {
  const line = (name, v) => {
    const { x, y, width, height } = rectangle(view, view.start - 10, view.down ? scale.end + 40 : view.width - 14, v, v);
    return { key: `lane-${name}`, tag: "path", attributes: { class: "lane", d: `M${x} ${y}L${x + width} ${y + height}` } };
  };
  const drawn = [line("client", view.lanes.client), line("gateway", view.lanes.gateway)];
  if (view.down) return [...drawn, line("pg", (view.pg.from + view.pg.to) / 2)];
  const name = (key, v, text, kind = "name") => ({ key: `name-${key}`, tag: "text", attributes: { class: kind, x: 18, y: v + 5 }, text });
  const api = view.replicas === 2 ? [name("a", view.lanes.a, "API A"), name("b", view.lanes.b, "API B")] : [name("a", view.lanes.a, "API")];
  return [
    ...drawn, name("client", view.lanes.client, "Client"), ...api,
    name("pg", (view.pg.from + view.pg.to) / 2, "PostgreSQL"), name("gateway", view.lanes.gateway, "Gateway"),
  ];
}

function replicas(events, view, state, scale, now) {
  const drawn = [];
  for (const replica of view.replicas === 2 ? ["a", "b"] : ["a"]) {
    const v = view.lanes[replica];
    const whole = rectangle(view, view.start - 6, scale.end + 8, v - 7, v + 7);
    drawn.push({ key: `track-${replica}`, tag: "rect", attributes: { class: "track", rx: 4, ...whole } });
    const bars = state.replicas[replica]?.bars ?? [];
    bars.forEach((bar, index) => {
      const from = index === 0 ? view.start - 6 : scale.place[bar.from];
      const to = bar.to === null ? now : scale.place[bar.to];
      drawn.push({ key: `bar-${replica}${index}`, tag: "rect", attributes: { class: "bar", rx: 4, ...rectangle(view, from, Math.max(to, from + 4), v - 7, v + 7) } });
      if (bar.to === null) return;
      const up = bars[index + 1] ? scale.place[bars[index + 1].from] : now;
      drawn.push({ key: `down-${replica}${index}`, tag: "rect", attributes: { class: "down", rx: 3, ...rectangle(view, to, Math.max(up, to), v - 7, v + 7) } });
      const seconds = bars[index + 1] ? `down ${milliseconds(events[bars[index + 1].from].t - events[bar.to].t)}` : "down";
      const beside = view.down ? { dx: -14, dy: 26, anchor: "end" } : { dx: 15, dy: 23, anchor: "start" };
      drawn.push(label(view, `seconds-${replica}${index}`, "bad", to, v, seconds, beside));
      drawn.push(disc(view, `died-${replica}${index}`, "killed", to, v, 11, MARKS.bolt));
    });
  }
  for (const { replica, at } of state.leases) {
    const beside = view.down ? { dx: -13, dy: 4, anchor: "end" } : { dy: -13, dx: 4, anchor: "start" };
    drawn.push(label(view, `lease${at}`, "own strong", scale.place[at], view.lanes[replica], "resolver", beside));
  }
  return drawn;
}

function rooms(view, state, at, now) {
  return state.rooms.flatMap((room) => {
    const [from, to] = [at(room.from), Math.max(room.to === null ? now : at(room.to), at(room.from) + 24)];
    const v = view.lanes[room.replica];
    const area = view.down ? rectangle(view, from, to, v - 26, v - 11) : rectangle(view, from - 6, to, v + 11, v + 33);
    const seated = state.waiting.filter(({ replica }) => replica === room.replica).length;
    const open = room.to === null;
    const dots = room.seats.slice(0, 10).map((request, index) => {
      const [cx, cy] = view.down ? [area.x + area.width / 2, area.y + 9 + index * 9] : [area.x + 12 + index * 9, area.y + area.height / 2];
      return { key: `seat${request}`, tag: "circle", attributes: { class: "seat", cx, cy, r: 3 } };
    });
    const words = open ? `${seated} wait${seated === 1 ? "s" : ""} in memory, 0 connections` : `${room.seats.length} waited in memory`;
    const text = view.down
      ? { x: area.x - 3, y: area.y + area.height + 12, "text-anchor": "end" }
      : { x: area.x + 20 + dots.length * 9, y: area.y + area.height / 2 + 4, "text-anchor": "start" };
    const children = [{ key: "room", tag: "rect", attributes: { class: "walls", rx: 8, ...area } }, ...dots];
    if (!view.down) children.push({ key: "words", tag: "text", attributes: { class: "label", ...text }, text: words });
    else if (area.height > 30) {
      const beside = (dy) => ({ class: "label small", x: area.x - 5, y: area.y + dy, "text-anchor": "end" });
      children.push({ key: "words", tag: "text", attributes: beside(14), text: open ? `${seated} wait,` : `${room.seats.length} waited,` });
      children.push({ key: "more", tag: "text", attributes: beside(28), text: "0 connections" });
    }
    return [{ key: `room${room.from}`, tag: "g", attributes: { class: open ? "room" : "room left" }, children }];
  });
}

/** What is still to come, hardly visible: the arrows that a visitor may cut. No coin, no row. */
function ghosts(view, state, last, at) {
  const { client, gateway } = view.lanes;
  const drawn = [];
  const ghost = (key, from, to) => drawn.push(arrow(view, key, "ghost", from, to));
  for (const one of [...last.requests.values()].flat()) {
    const api = view.lanes[one.replica] ?? view.lanes.a;
    if (one.sentAt >= state.count && one.receivedAt !== null) ghost(`ghost-go${one.sentAt}`, [at(one.sentAt), client + 6], [at(one.receivedAt), api - 9]);
    if (one.answeredAt !== null && one.answeredAt >= state.count) ghost(`ghost-back${one.sentAt}`, [at(one.answeredAt) - 16, api - 9], [at(one.answeredAt), client + 8]);
  }
  for (const call of last.calls) {
    const api = view.lanes[call.replica] + 8;
    if (call.gateway && call.at >= state.count) ghost(`ghost-call${call.at}`, [at(call.at), api], [at(call.gateway.at), gateway - 14]);
    if (call.gateway && call.replyAt !== null && call.gateway.at >= state.count) ghost(`ghost-reply${call.at}`, [at(call.gateway.at) + 4, gateway - 14], [at(call.replyAt), api + 2]);
  }
  return drawn;
}

const GATEWAY = {
  repeat: { kind: "again", mark: MARKS.tick, words: "same key: not again" },
  look: { kind: "looked", mark: MARKS.look, words: "looked up" },
  decline: { kind: "declined", mark: MARKS.minus, words: "declined" },
  lost: { kind: "nothing", mark: MARKS.cross, words: "no answer" },
};

function calls(view, state, last, at, progress) {
  const { a: _a, gateway } = view.lanes;
  let coins = 0;
  return state.calls.flatMap((call, index) => {
    const key = `call${call.at}`;
    const whole = last.calls[index];
    const api = view.lanes[call.replica] + (view.down ? 7 : 8);
    const drawn = [];
    const arrival = whole?.gateway?.at ?? whole?.dropped?.at;
    const reach = call.dropped?.of === "call" && !call.gateway ? 0.55 : 1;
    const to = arrival === undefined ? at(call.at) + 30 : at(arrival);
    const gone = arrival === undefined ? 1 : Math.min(progress(call.at, arrival), reach);
    drawn.push(arrow(view, `${key}go`, "plain", [at(call.at), api], [to, gateway - 14], call.gateway ? 1 : gone));
    if (call.dropped?.of === "call" && !call.gateway) {
      const middle = [(at(call.at) + to) / 2 + 4, (api + gateway) / 2 + 10];
      drawn.push(disc(view, `${key}cut`, "cut", ...middle, 9, MARKS.cross), label(view, `${key}cutwords`, "bad", ...middle, "lost on its way", { dx: 14, dy: 4, anchor: "start" }));
    }
    if (!call.gateway) return drawn;
    const here = at(call.gateway.at);
    const under = (kind, words) => label(view, `${key}words`, kind, here, gateway, words, view.down ? { dx: 32, dy: 28, anchor: "end" } : { dy: 30 });
    if (call.gateway.kind === "capture") {
      coins += 1;
      const words = `${money(call.gateway.amount, call.gateway.currency)} taken${coins > 1 ? " again" : ""}`;
      drawn.push(disc(view, `${key}coin`, "coin", here, gateway, 13, MARKS.euro), under(coins > 1 ? "bad strong" : "strong", words));
    } else {
      const { kind, mark, words } = GATEWAY[call.gateway.kind] ?? GATEWAY.look;
      drawn.push(disc(view, `${key}mark`, kind, here, gateway, 12, mark), under("money strong", words));
    }
    if (call.lostAt !== null || call.dropped?.of === "answer") {
      const lost = at(call.lostAt ?? call.dropped.at);
      drawn.push(arrow(view, `${key}lost`, "lost", [here + 4, gateway - 14], [Math.max(lost, here + 12), api + 34], 1, false));
      const end = [Math.max(lost, here + 12), api + 26];
      drawn.push(disc(view, `${key}cross`, "cut", ...end, 9, MARKS.cross));
      drawn.push(label(view, `${key}nobody`, "bad", ...end, call.caller === "died" ? (view.down ? "finds nobody" : "the answer finds nobody") : view.down ? "lost" : "the answer is lost", view.down ? { dx: 14, dy: 18, anchor: "start" } : { dx: 14, dy: 4, anchor: "start" }));
    } else if (whole?.replyAt !== null && whole?.replyAt !== undefined) {
      const back = progress(call.gateway.at, whole.replyAt);
      if (back > 0) drawn.push(arrow(view, `${key}back`, "own", [here + 4, gateway - 14], [at(whole.replyAt), api + 2], call.replyAt === null ? back : 1));
    }
    return drawn;
  });
}

function requests(view, state, last, at, progress, crowded) {
  const { client } = view.lanes;
  const drawn = [];
  const spots = [];
  // A label that would cover another is left out: the list of steps has them all.
  const write = (key, kind, u, text, tries, level = 14) => {
    if (view.down && text.length > 12) return drawn.push(label(view, key, kind, u, 8, text, { dy: 20, anchor: "start" }));
    if (view.down) {
      drawn.push(label(view, key, kind, u, client, text, { dy: level === 24 ? 24 : -11 }));
      return;
    }
    const width = text.length * (level === 28 ? 6.9 : 6.3);
    for (const anchor of tries) {
      const from = anchor === "start" ? u - 8 : anchor === "end" ? u + 18 - width : u - width / 2;
      if (from + width > view.width - 4 || spots.some((spot) => spot.level === level && spot.from < from + width + 5 && from < spot.to + 5)) continue;
      spots.push({ from, to: from + width, level });
      drawn.push(label(view, key, kind, from, client, text, { dy: -level, anchor: "start" }));
      return;
    }
  };
  const answers = [...state.requests.values()].flat().map((one) => one.answeredAt).filter((answeredAt) => answeredAt !== null);
  const [firstAnswer, lastAnswer] = [Math.min(...answers), Math.max(...answers)];
  const tries = [...state.requests.values()].flat().sort((one, other) => one.sentAt - other.sentAt);
  const clicks = tries.filter(({ number }) => number === 1).length;
  for (const one of tries) {
    const key = `try${one.request}-${one.number}`;
    const whole = last.requests.get(one.request)?.find(({ number }) => number === one.number);
    const api = view.lanes[one.replica] ?? view.lanes.a;
    const here = at(one.sentAt);
    drawn.push(disc(view, `${key}dot`, "click", here, client, crowded ? 4.5 : 6));
    const words = one.number > 1 ? "again" : crowded ? `Pay × ${clicks}` : "Pay";
    if (!crowded || one.request === tries[0].request) write(`${key}pay`, one.number > 1 ? "" : "strong", here, words, crowded ? ["start"] : ["middle", "end"]);
    const arrival = whole?.receivedAt ?? whole?.dropped?.at ?? null;
    const cut = one.dropped?.of === "request" && one.receivedAt === null;
    const to = arrival === null ? here + 16 : at(arrival);
    const gone = one.receivedAt !== null ? 1 : arrival === null ? 1 : Math.min(progress(one.sentAt, arrival), cut ? 0.5 : 1);
    drawn.push(arrow(view, `${key}go`, crowded ? "plain thin" : "plain", [here, client + 6], [to, api - 9], gone));
    if (cut) drawn.push(disc(view, `${key}cut`, "cut", (here + to) / 2, (client + api) / 2, 9, MARKS.cross));
    if (one.noAnswerAt !== null) {
      const end = at(one.noAnswerAt);
      const broke = at(one.dropped?.at ?? one.brokenAt ?? one.noAnswerAt);
      if (!cut) drawn.push(arrow(view, `${key}lost`, "lost", [Math.min(broke, end - 12), api - 12], [end, client + 11], 1, false));
      drawn.push(disc(view, `${key}none`, "cut", end, client, 9, MARKS.cross));
      write(`${key}nonewords`, "bad", end, "no answer", ["middle", "start"], view.down ? 24 : 14);
    }
    if (whole?.answeredAt === null || whole?.answeredAt === undefined) continue;
    const arrives = at(whole.answeredAt);
    const leaves = arrives - (crowded ? 9 : 16);
    const back = one.answeredAt !== null ? 1 : progress(Math.max(whole.answeredAt - 1, 0), whole.answeredAt);
    if (one.answeredAt === null) continue;
    drawn.push(arrow(view, `${key}back`, `own ${crowded ? "thin" : ""}`, [leaves, api - 9], [arrives, client + 8], back));
    drawn.push(disc(view, `${key}ring`, "answer", arrives, client, crowded ? 4.5 : 6));
    if (one.status !== 202) drawn.push(strip(view, `${key}strip`, arrives, one.digest));
    const isLast = one.answeredAt === lastAnswer && crowded && answers.length > 1;
    const status = isLast ? "same bytes" : one.replayed && one.status !== 202 && !crowded ? "same bytes" : String(one.status);
    if (!crowded || one.answeredAt === firstAnswer || isLast) {
      write(`${key}status`, "status", arrives, status, one.answeredAt === lastAnswer ? ["end", "start"] : ["middle", "end", "start"], isLast && view.down ? 24 : one.status === 202 ? 14 : 28);
    }
  }
  return drawn;
}

function cursor(events, view, now, extent, state) {
  const at = Math.round(now * 10) / 10;
  const attributes = view.down
    ? { class: "cursor", d: `M8 ${at}H${view.width - 8}` }
    : { class: "cursor", d: `M${at} 2V${extent - 8}` };
  const handle = `M${at - 6} 0h12v8l-6 6l-6-6z`;
  const children = [{ key: "line", tag: "path", attributes }];
  if (view.down) {
    const text = milliseconds(Math.max(events[Math.max(state.count - 1, 0)].t - (state.zero ?? 0), 0));
    const width = text.length * 6.3 + 14;
    children.push({ key: "handle", tag: "rect", attributes: { class: "handle", x: 4, y: at - 9, width, height: 18, rx: 9 } });
    children.push({ key: "time", tag: "text", attributes: { class: "time", x: 4 + width / 2, y: at + 4, "text-anchor": "middle" }, text });
  } else children.push({ key: "handle", tag: "path", attributes: { class: "handle", d: handle } });
  return [{ key: "cursor", tag: "g", attributes: { class: "now" }, children }];
}
