// SPDX-License-Identifier: MIT OR Apache-2.0
// Drawings of what happens over time, as SVG.
import { make } from "/dom.js";
import { colour } from "/masks.js";
import { TEXT } from "/text.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 180; // of a plot, px
const MARK = 90; // between marks of time at least, px
const LEFT = 56; // room for what stands beside
const BELOW = 22;
const ROW = 22;
const ROWS = 20; // of the time line at most

function draw(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const across = ({ from, to, width }, time) => LEFT + ((width - LEFT) * (time - from)) / (to - from);

/** Hours or days below a drawing. */
function times(span, height) {
  const { from, to, width } = span;
  const steps = [300e3, 900e3, 3600e3, 3 * 3600e3, 6 * 3600e3, 86400e3, 7 * 86400e3];
  const most = Math.max(2, (width - LEFT) / MARK);
  const step = steps.find((step) => (to - from) / step <= most) ?? (to - from) / most;
  const marks = [];
  const zone = new Date(from).getTimezoneOffset() * 60e3;
  for (let time = Math.ceil((from - zone) / step) * step + zone; time < to; time += step) {
    const x = across(span, time);
    const text = step >= 86400e3
      ? new Date(time).toLocaleDateString([], { month: "short", day: "numeric" })
      : new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    marks.push(draw("line", { x1: x, x2: x, y1: 0, y2: height, class: "grid" }));
    marks.push(draw("text", { x, y: height + 15, "text-anchor": "middle" }, text));
  }
  return marks;
}

/**
 * Lines of several series over a `span`: `from` and `to` in ms, drawn so many pixels in `width`; each series with `name`, `colour` and
 * `points`: time, and what `valueOf` makes a value of.
 */
export function plot(title, series, span, valueOf, write) {
  const most = Math.max(1e-9, ...series.flatMap(({ points }) => points.map(valueOf)));
  const y = (value) => HEIGHT - 4 - (HEIGHT - 14) * (value / most);
  const steps = series.flatMap(({ points }) => points.slice(1).map(([time], index) => time - points[index][0]));
  const usual = steps.length ? Math.min(...steps) : 0;
  const lines = series.map(({ points, colour: stroke, name }) => {
    // Where nothing was kept there is no line.
    const parts = points.map((point, index) => {
      const begins = index === 0 || point[0] - points[index - 1][0] > 1.5 * usual;
      // A point that stands alone is seen too.
      return `${begins ? "M" : "L"}${across(span, point[0]).toFixed(1)} ${y(valueOf(point)).toFixed(1)}${begins ? "h.01" : ""}`;
    });
    return draw("path", { d: parts.join(""), stroke, class: "series" }, draw("title", {}, name));
  });
  const marks = [0, most / 2, most].flatMap((value) => [
    draw("line", { x1: LEFT, x2: span.width, y1: y(value), y2: y(value), class: "grid" }),
    draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, write(value)),
  ]);
  const latest = series.map(({ name, colour: background, points }) => {
    const chip = make("span", { className: "chip" });
    chip.style.background = background;
    return make("li", {}, chip, `${name} ${write(valueOf(points.at(-1)))}`);
  });
  return make("figure", {}, make("figcaption", { textContent: title }),
    draw("svg", { viewBox: `0 0 ${span.width} ${HEIGHT + BELOW}`, role: "img", "aria-label": title }, ...times(span, HEIGHT), ...marks, ...lines),
    make("ul", { className: "legend" }, ...latest));
}

/** Who was there from when to when, from events (newest first): a row for each camera, label and zone; bars lead to their events. */
export function timeline(events, span) {
  const rows = new Map();
  for (const { number, line } of [...events].reverse()) {
    if (line.type !== "presence") continue;
    const name = [line.camera, line.label, ...(line.zone ? [line.zone] : [])].join(" · ");
    const row = rows.get(name) ?? { name, label: line.label, bars: [] };
    rows.set(name, row);
    const time = Date.parse(line.time);
    const last = row.bars.at(-1);
    if (line.state === "entered") row.bars.push({ number, from: time, to: null });
    else if (last && last.to === null) last.to = time;
    else row.bars.push({ number, from: span.from, to: time });
  }
  // After a lost connection everything enters again: what was there then was there until it was lost.
  for (const { bars } of rows.values()) bars.forEach((bar, index) => (bar.to ??= bars[index + 1]?.from ?? span.to));
  const shown = [...rows.values()].slice(0, ROWS);
  const height = ROW * shown.length;
  const bars = shown.flatMap(({ name, label, bars }, index) => [
    ...bars.map(({ number, from, to }) => {
      const [x, end] = [across(span, Math.max(from, span.from)), across(span, to)];
      const fill = `rgb(${colour(label, index + 1).join(" ")})`;
      const bar = draw("rect", { x: Math.min(x, span.width - 3), y: ROW * index + 3, width: Math.max(3, end - x), height: ROW - 6, rx: 3, fill });
      const what = TEXT.present(name, new Date(from).toLocaleString([], { hour12: false }));
      return draw("a", { href: `#/event/${number}`, "aria-label": what }, bar, draw("title", {}, what));
    }),
    draw("text", { x: LEFT + 4, y: ROW * index + 15, class: "row" }, name),
  ]);
  if (!shown.length) return make("span");
  return make("figure", {}, make("figcaption", { textContent: TEXT.timeLine }),
    draw("svg", { viewBox: `0 0 ${span.width} ${height + BELOW}`, role: "group", "aria-label": TEXT.timeLine }, ...times(span, height), ...bars));
}
