// SPDX-License-Identifier: MIT OR Apache-2.0
// The classes of the camera that is looked at: whether their masks are drawn, how much there is of each, how sure it has to be, and
// how sure it is.
import { byId, keep, make } from "/dom.js";
import { colour } from "/masks.js";
import { style } from "/stage.js";
import { TEXT } from "/text.js";

const BINS = 25; // that the program counts in
const PICTURES = 100; // that a histogram looks back

let rows = new Map(); // by label: what its scores were lately

/** Begins anew, as with another camera. */
export function clear() {
  rows = new Map();
  byId("regions").replaceChildren();
}

/**
 * Shows what is there of each label, by a picture that `isNew` or was there before. `limits`: least scores by label, or null where they
 * cannot be set; `changed` is called with a label and a new one. `redraw` draws the masks anew.
 */
export function show(labels, { regions, tags = [], histograms = [] }, { limits, isNew }, { changed, redraw }) {
  const found = new Map(regions.map((region) => [region.label, region]));
  const tagged = new Map(tags.map((tag) => [tag.label, tag.score]));
  const counted = new Map(histograms.map(({ label, pixels }) => [label, pixels]));
  const entries = labels.map((label, index) => ({ label, value: index + 1 }));
  keep(byId("regions"), entries, ({ label }) => label, (entry) => add(entry, limits !== null, { changed, redraw }), (item, { label }) => {
    const region = found.get(label);
    const row = rows.get(label);
    item.classList.toggle("found", region !== undefined);
    item.querySelector(".share").textContent = region ? TEXT.share(region.area, region.score) : TEXT.notSeen;
    if (limits === null) return;
    row.limit = limits.get(label) ?? 0;
    const slider = item.querySelector("[type=range]");
    if (document.activeElement !== slider || Number(slider.value) === row.limit) slider.value = row.limit;
    item.querySelector("output").textContent = row.limit ? row.limit.toFixed(2) : TEXT.noLimit;
    // As long as nothing is counted there is none of any class.
    if (isNew && histograms.length) row.past.push(counted.get(label) ?? []);
    if (row.past.length > PICTURES) row.past.shift();
    draw(row, tagged.get(label));
  });
  for (const label of rows.keys()) if (!labels.includes(label)) rows.delete(label);
}

function add({ label, value }, isLimited, { changed, redraw }) {
  const box = make("input", { type: "checkbox", checked: !style.hidden.has(label) });
  box.addEventListener("change", () => {
    style.hidden[box.checked ? "delete" : "add"](label);
    redraw();
  });
  const chip = make("span", { className: "chip" });
  const ink = `rgb(${colour(label, value).join(" ")})`;
  chip.style.background = ink;
  const head = make("label", {}, box, chip, make("span", { className: "label", textContent: label }), make("span", { className: "share" }));
  const item = make("li", { data: { label } }, head);
  const canvas = make("canvas", { width: 10 * BINS, height: 36, role: "img", aria: { label: TEXT.histogramOf(label) }, title: TEXT.histogram });
  rows.set(label, { ink, past: [], limit: 0, canvas });
  if (isLimited) {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, aria: { label: TEXT.limitOf(label) } });
    slider.addEventListener("input", () => changed(label, Number(slider.value)));
    item.append(make("div", { className: "limit" }, make("div", {}, canvas, slider), make("output")));
  }
  return item;
}

/** Pixels won by their score, of the latest pictures, those too that the slider takes away; a line where the picture's own tag score is. */
function draw({ ink, past, limit, canvas }, tag) {
  const bins = Array.from({ length: BINS }, (_, index) => past.reduce((sum, pixels) => sum + (pixels[index] ?? 0), 0));
  const most = Math.max(...bins, 1);
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.fillStyle = ink;
  bins.forEach((bin, index) => {
    context.globalAlpha = (index + 1) / BINS <= limit ? 0.3 : 1;
    const tall = bin ? Math.max(2, (bin / most) * (height - 2)) : 0;
    context.fillRect(10 * index + 1, height - tall, 8, tall);
  });
  context.globalAlpha = 1;
  context.fillStyle = getComputedStyle(canvas).color;
  context.fillRect(0, height - 1, width, 1);
  if (tag !== undefined) context.fillRect(Math.round(tag * (width - 2)), 0, 2, height);
}
