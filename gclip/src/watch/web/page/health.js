// SPDX-License-Identifier: MIT OR Apache-2.0
// How cameras, model and outputs are, in numbers.
import { byId, keep, make } from "/dom.js";
import { TEXT } from "/text.js";
import { describe } from "/wall.js";

function table(rows) {
  const [head, ...body] = rows;
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell, index) => make(index === 0 ? "th" : tag, { textContent: cell })));
  return make("table", {}, make("thead", {}, row("th", head)), make("tbody", {}, ...body.map((cells) => row("td", cells))));
}

const number = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en"));

export function show({ cameras, model, outputs }) {
  if (byId("health").hidden) return;
  const counts = Object.keys(TEXT.counts);
  const ofCameras = cameras.map((camera) => [
    camera.name,
    describe(camera),
    camera.last_failure ? TEXT.lastFailure(camera.last_failure.why, camera.last_failure.ms_ago) : "–",
    ...counts.map((count) => number(camera.counts[count])),
  ]);
  const fill = model.forwards ? (model.frames / model.forwards).toFixed(2) : "–";
  const ofModel = [number(model.forwards), fill, model.forward_ms?.toFixed(1) ?? "–", number(model.queue)];
  const ofOutputs = outputs.map((output) => [output.name, ...["delivered", "dropped", "waiting"].map((key) => number(output[key]))]);
  const parts = [
    [TEXT.cameras, [TEXT.cameraColumns.concat(counts.map((count) => TEXT.counts[count])), ...ofCameras]],
    [TEXT.model, [TEXT.modelColumns, ofModel]],
    ...(ofOutputs.length ? [[TEXT.outputs, [TEXT.outputColumns, ...ofOutputs]]] : []),
  ];
  keep(byId("health"), parts, ([title]) => title, ([title]) => make("section", {}, make("h2", { textContent: title }), make("div", { className: "wide" })),
    (section, [, rows]) => section.querySelector(".wide").replaceChildren(table(rows)));
}
