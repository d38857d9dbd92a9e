// SPDX-License-Identifier: MIT OR Apache-2.0
// What happened: a list with snapshots, a time line, and plots of how much there was of what.
import { byId, keep, make } from "/dom.js";
import { tell } from "/events.js";
import { ask } from "/interface.js";
import { colour } from "/masks.js";
import { plot, timeline } from "/plots.js";
import { TEXT } from "/text.js";

const PAGE = 100; // events at a time
const AGAIN = 10000; // between looks for newer ones, ms
const HOUR = 3600e3;
const TWO = 860; // plots beside each other, if there is so much room, px

let query = null; // what is asked for, while this part of the page is shown
let events = []; // newest first
let timer = null;

const fields = () => ["camera", "label", "zone", "hours"].map((name) => [name, byId(`of-${name}`)]);

/** Shows what a query of the address asks for: camera, label, zone, hours. */
export function show(parameters) {
  query = parameters;
  for (const [name, field] of fields()) {
    const value = parameters.get(name) ?? (name === "hours" ? "24" : "");
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) field.add(new Option(value));
    field.value = value;
  }
  events = [];
  load();
}

export function close() {
  query = null;
  clearTimeout(timer);
}

/** The cameras that can be asked for. */
export function refresh(cameras) {
  const field = byId("of-camera");
  const known = new Set([...field.options].map((option) => option.value));
  for (const { name } of cameras) if (!known.has(name)) field.add(new Option(name));
}

for (const [, field] of fields()) {
  field.addEventListener("change", () => {
    const chosen = fields().map(([name, { value }]) => [name, value]).filter(([, value]) => value);
    location.hash = `#/events?${new URLSearchParams(chosen)}`;
  });
}

byId("filters").addEventListener("submit", (event) => event.preventDefault());

function span() {
  const hours = Number(byId("of-hours").value) || 24;
  const to = Date.now();
  return [to - hours * HOUR, to];
}

async function load(before) {
  clearTimeout(timer);
  const mine = query;
  const [from, to] = span();
  const wanted = new URLSearchParams({ from: new Date(from).toISOString(), limit: PAGE });
  for (const name of ["camera", "label", "zone"]) if (mine.get(name)) wanted.set(name, mine.get(name));
  const ofStats = new URLSearchParams(wanted);
  ofStats.delete("limit");
  ofStats.delete("zone");
  ofStats.set("step", Math.max(1, Math.round((to - from) / HOUR)));
  if (before !== undefined) wanted.set("before", before);
  try {
    const { events: found } = await ask(`/api/events?${wanted}`);
    if (query !== mine) return;
    // A snapshot may have come since.
    const known = new Map([...events, ...found].map((event) => [event.number, event]));
    events = [...known.values()].sort((a, b) => b.number - a.number);
    if (before !== undefined || events.length === found.length) byId("older").hidden = found.length < PAGE;
    list();
    byId("time-line").replaceChildren(timeline(events, { from, to, width: byId("time-line").clientWidth }));
    byId("history-said").textContent = events.length ? "" : TEXT.nothingFound;
    const { series } = await ask(`/api/stats?${ofStats}`);
    if (query === mine) plots(series, from, to);
  } catch (error) {
    if (query !== mine) return;
    byId("plots").replaceChildren();
    // Nothing is kept on disk: the list is of what is in memory, and there are no statistics.
    byId("history-said").textContent = error.status === 404 ? TEXT.noHistory : error.message;
  }
  clearTimeout(timer);
  timer = setTimeout(again, AGAIN);
}

function again() {
  if (!document.hidden) load();
  else timer = setTimeout(again, AGAIN);
}

byId("older").addEventListener("click", () => load(events.at(-1).number));

export const linkOf = (event) => `#/event/${event.number}`;
const snapshotOf = (event) => `/api/events/${event.number}/snapshot`;
const when = (line) => new Date(line.time).toLocaleString([], { hour12: false });

function list() {
  for (const { line } of events) if (line.label) offer(line.label);
  keep(byId("found"), events, ({ number, snapshot }) => `${number} ${snapshot}`, (event) => {
    const { line } = event;
    const words = make("span", {}, make("time", { dateTime: line.time, textContent: when(line) }), make("strong", { textContent: line.camera }), ` ${tell(line)}`);
    const picture = event.snapshot
      ? make("img", { src: snapshotOf(event), alt: TEXT.snapshotOf(tell(line)), loading: "lazy", width: 128, height: 72 })
      : make("span", { className: "no-picture" });
    return make("li", {}, make("a", { href: linkOf(event) }, picture, words));
  });
}

/** Labels that have been seen can be chosen. */
function offer(label) {
  const known = byId("known-labels");
  if (![...known.options].some((option) => option.value === label)) known.append(new Option(label, label));
}

function plots(series, from, to) {
  const all = byId("plots").clientWidth;
  const span = { from, to, width: all < TWO ? all : all / 2 - 12 };
  const named = series.filter(({ points }) => points.length).map((one, index) => ({
    ...one,
    name: byId("of-camera").value ? one.label : `${one.camera}: ${one.label}`,
    colour: `rgb(${colour(one.label, index + 1).join(" ")})`,
  }));
  byId("plots").replaceChildren(
    plot(TEXT.shareOverTime, named, span, ([, share]) => 100 * share, (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`),
    plot(TEXT.countOverTime, named, span, ([, , count]) => count, (value) => value.toFixed(1)),
  );
}

/** One event alone, as a link shows it. */
export async function showOne(number) {
  const place = byId("event");
  place.replaceChildren();
  try {
    const event = await ask(`/api/events/${encodeURIComponent(number)}`);
    const { line } = event;
    place.replaceChildren(
      make("h2", { textContent: `${line.camera}: ${tell(line)}` }),
      make("p", { textContent: [when(line), ...(line.area === undefined ? [] : [TEXT.share(line.area, line.score)])].join(", ") }),
      ...(event.snapshot ? [make("img", { src: snapshotOf(event), alt: TEXT.snapshotOf(tell(line)) })] : []),
      make("p", {}, make("a", { href: `#/camera/${encodeURIComponent(line.camera)}`, textContent: TEXT.toCamera(line.camera) })),
    );
  } catch (error) {
    place.replaceChildren(make("p", { textContent: error.message }));
  }
}
