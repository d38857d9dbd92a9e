// SPDX-License-Identifier: MIT OR Apache-2.0
// How cameras, model, outputs and what is kept are, in numbers.
import { byId, keep, make } from "/dom.js";
import { ask } from "/interface.js";
import { TEXT } from "/text.js";

function table(rows) {
  const [head, ...body] = rows;
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell, index) => make(index === 0 ? "th" : tag, { textContent: cell })));
  return make("table", {}, make("thead", {}, row("th", head)), make("tbody", {}, ...body.map((cells) => row("td", cells))));
}

const number = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: 1 }));
const megabytes = (bytes) => (bytes === null || bytes === undefined ? "–" : `${(bytes / 1e6).toFixed(1)} MB`);
const when = (time) => new Date(time).toLocaleString([], { hour12: false });

/** Asks how all is, and shows it while this part of the page is open. */
export async function refresh() {
  if (byId("health").hidden) return;
  const { cameras, outputs, model, texts, history, process } = await ask("/api/health");
  const counts = Object.keys(TEXT.counts);
  const ofCameras = cameras.map(({ name, state, counts: all }) => [name, TEXT.states[state] ?? state, ...counts.map((count) => number(all[count]))]);
  const losses = cameras.flatMap(({ name, failures }) => failures.map(({ time, why }) => [when(time), name, why]));
  losses.sort((a, b) => (a[0] < b[0] ? 1 : -1));
  const ofModel = ["forwards", "fill", "queue", "queue_ms", "preprocess_ms", "forward_ms", "decode_ms"].map((key) => number(model[key]));
  const parts = [
    [TEXT.cameras, [TEXT.cameraColumns.concat(counts.map((count) => TEXT.counts[count])), ...ofCameras]],
    ...(losses.length ? [[TEXT.losses, [TEXT.lossColumns, ...losses]]] : []),
    [TEXT.model, [TEXT.modelColumns, ofModel]],
    [TEXT.texts, [TEXT.textColumns, ["hits", "misses", "encoded"].map((key) => number(texts[key]))]],
    ...(outputs.length ? [[TEXT.outputs, [TEXT.outputColumns, ...outputs.map((output) => [output.name, ...["delivered", "dropped", "waiting"].map((key) => number(output[key]))])]]] : []),
    ...(history ? [[TEXT.kept, [TEXT.keptColumns, [
      ...["events", "lost_events", "snapshots", "lost_snapshots", "lost_minutes"].map((key) => number(history[key])),
      megabytes(history.database_bytes), megabytes(history.snapshot_bytes), history.trouble ?? "–",
    ]]]] : []),
    [TEXT.program, [TEXT.programColumns, [when(process.started), megabytes(process.resident_bytes), number(process.cpu_seconds)]]],
  ];
  keep(byId("health"), parts, ([title]) => title,
    ([title]) => make("section", {}, make("h2", { textContent: title }), make("div", { className: "wide" })),
    (section, [, rows]) => section.querySelector(".wide").replaceChildren(table(rows)));
}
