// SPDX-License-Identifier: MIT OR Apache-2.0
// All cameras, each with its picture and how it is.
import { byId, keep, make } from "/dom.js";
import { look } from "/looking.js";
import { Stage } from "/stage.js";
import { TEXT } from "/text.js";

const tiles = new Map(); // by camera

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = tiles.get(target.dataset.key);
    if (tile) tile.isVisible = isIntersecting;
  }
});

/** Draws all pictures anew. */
export function redraw() {
  for (const tile of tiles.values()) tile.stage.draw();
}

function add({ name }) {
  const stage = new Stage(name);
  const state = make("span", { className: "state" });
  const rates = make("span", { className: "rates" });
  const masks = make("span", { className: "masks" });
  const about = make("div", { className: "about" }, make("strong", { textContent: name }), state, rates, masks);
  const element = make("a", { className: "camera", href: `#/camera/${encodeURIComponent(name)}` }, stage.element, about);
  const tile = { element, stage, state, rates, masks, isVisible: false, isOver: false };
  tiles.set(name, tile);
  watcher.observe(element);
  look(name, {
    isSeen: () => tile.isVisible && !byId("wall").hidden && !byId("main").hidden,
    isOver: () => tiles.get(name) !== tile,
    show: async (view) => {
      await stage.show(view);
      masks.textContent = TEXT.times(view.masks?.age, view.delay);
    },
  });
  return element;
}

export function describe(camera) {
  const parts = [TEXT.states[camera.state] ?? camera.state];
  if (camera.why) parts.push(camera.why);
  if (camera.next_try_ms !== null) parts.push(TEXT.nextTry(camera.next_try_ms));
  return parts.join(", ");
}

/** Shows how the cameras are; those that are not among them any more go. */
export function show(cameras) {
  const names = new Set(cameras.map((camera) => camera.name));
  for (const name of tiles.keys()) if (!names.has(name)) tiles.delete(name);
  keep(byId("wall"), cameras, (camera) => camera.name, add, (element, camera) => {
    const tile = tiles.get(camera.name);
    element.dataset.state = camera.state;
    tile.state.textContent = describe(camera);
    tile.rates.textContent = TEXT.rate(camera.frames_per_second, camera.masks_per_second);
  });
}
