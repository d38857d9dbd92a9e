// SPDX-License-Identifier: MIT OR Apache-2.0
// Zones: their text, as in the config file, and an editor that lies on a picture. Corners are x and y, 0..1 from the top left.
import { keep, make } from "/dom.js";
import { sharesInside } from "/masks.js";
import { TEXT } from "/text.js";

const SNAP = 0.02; // this near to the border is on it
const STEP = 0.01; // of an arrow key; five times as much with Shift
const SVG = "http://www.w3.org/2000/svg";

/** `door=0.1,0.2 0.5,0.2 0.5,0.9; ramp=...` as a list. */
export function parse(text) {
  const zone = (part) => {
    const [name, corners = ""] = part.split("=");
    return { name: name.trim(), corners: corners.trim().split(/\s+/).map((corner) => corner.split(",").map(Number)) };
  };
  return text.split(/[;\n]/).filter((part) => part.trim()).map(zone);
}

const rounded = (share) => String(Math.round(share * 1e4) / 1e4);

export const format = (zones) =>
  zones.map(({ name, corners }) => `${name}=${corners.map((corner) => corner.map(rounded).join(",")).join(" ")}`).join("; ");

const snapped = (share) => (share < SNAP ? 0 : share > 1 - SNAP ? 1 : share);

/** A polygon moved by some way, and no further than the picture goes. */
function moved(corners, across, down) {
  const way = (axis, wish) => {
    const all = corners.map((corner) => corner[axis]);
    const most = Math.min(1 - Math.max(...all), Math.max(-Math.min(...all), wish));
    const [low, high] = [Math.min(...all) + most, Math.max(...all) + most];
    return low < SNAP ? most - low : high > 1 - SNAP ? most + 1 - high : most;
  };
  const [x, y] = [way(0, across), way(1, down)];
  return corners.map((corner) => [corner[0] + x, corner[1] + y]);
}

export class Editor {
  /** On `stage`, with a list of the zones in `list`; `changed` is called after each change by the user. */
  constructor(stage, list, changed) {
    Object.assign(this, { stage, list, changed, zones: [], chosen: -1, drawing: null });
    this.shapes = document.createElementNS(SVG, "svg");
    this.shapes.setAttribute("viewBox", "0 0 1 1");
    this.shapes.setAttribute("preserveAspectRatio", "none");
    this.shapes.classList.add("zones");
    this.handles = make("div", { className: "handles" });
    stage.element.append(this.shapes, this.handles);
    this.shapes.addEventListener("pointerdown", (event) => this.press(event));
    this.shapes.addEventListener("pointermove", (event) => this.sketch(event));
    stage.element.addEventListener("keydown", (event) => this.key(event));
  }

  set(zones) {
    this.zones = zones;
    this.chosen = Math.min(this.chosen, zones.length - 1);
    this.stop();
  }

  /** The next clicks on the picture are corners of a new zone. */
  draw() {
    this.chosen = -1;
    this.drawing = [];
    this.shapes.classList.add("drawing");
    this.stage.element.tabIndex = -1;
    this.stage.element.focus();
    this.refresh();
  }

  stop() {
    this.drawing = null;
    this.shapes.classList.remove("drawing");
    this.refresh();
  }

  /** A new zone in the middle, for who has no pointer. */
  add(corners = [[0.3, 0.3], [0.7, 0.3], [0.7, 0.7], [0.3, 0.7]]) {
    const isTaken = (name) => this.zones.some((zone) => zone.name === name);
    let number = 1;
    while (isTaken(TEXT.newZone(number))) number++;
    this.zones.push({ name: TEXT.newZone(number), corners });
    this.chosen = this.zones.length - 1;
    this.stop();
    this.changed();
    this.list.lastElementChild?.querySelector("input")?.select();
  }

  remove(index) {
    this.zones.splice(index, 1);
    this.chosen = -1;
    this.refresh();
    this.changed();
  }

  rename(index, name) {
    // These have a meaning of their own in the text of zones.
    const wanted = name.replace(/[=;\n]/g, " ").trim();
    const isTaken = this.zones.some((zone, other) => other !== index && zone.name === wanted);
    if (wanted === this.zones[index].name) return;
    if (wanted && !isTaken) this.zones[index].name = wanted;
    this.list.children[index].querySelector("input").value = this.zones[index].name;
    this.refresh();
    if (wanted && !isTaken) this.changed();
  }

  /** Whoever is inside, live. */
  test(masks) {
    this.zones.forEach((zone, index) => {
      const inside = this.list.children[index]?.querySelector(".inside");
      if (inside) inside.textContent = TEXT.inside(masks ? sharesInside(masks, zone.corners) : []);
    });
  }

  // The pointer.

  press(event) {
    event.preventDefault();
    const at = this.stage.place(event).map((share) => snapped(Math.min(1, Math.max(0, share))));
    if (this.drawing) return this.corner(at);
    const chosen = Number(event.target.dataset?.zone ?? -1);
    this.choose(chosen);
    if (chosen < 0) return;
    const { corners } = this.zones[chosen];
    this.follow(event, (now) => {
      this.zones[chosen].corners = moved(corners, now[0] - at[0], now[1] - at[1]);
    });
  }

  corner(at) {
    const [first] = this.drawing;
    const isFirst = first && Math.hypot(first[0] - at[0], first[1] - at[1]) < SNAP;
    if (isFirst && this.drawing.length >= 3) return this.close();
    if (!isFirst) this.drawing.push(at);
    this.refresh();
  }

  close() {
    const corners = this.drawing;
    if (corners.length >= 3) this.add(corners);
  }

  sketch(event) {
    if (!this.drawing?.length) return;
    this.pointer = this.stage.place(event);
    this.refresh();
  }

  /** Calls `move` with each place of the pointer until it is let go. */
  follow(event, move) {
    const target = this.stage.element;
    let hasMoved = false;
    const on = (event) => {
      hasMoved = true;
      move(this.stage.place(event));
      this.refresh();
    };
    const off = () => {
      target.removeEventListener("pointermove", on);
      target.removeEventListener("pointerup", off);
      target.removeEventListener("pointercancel", off);
      if (hasMoved) this.changed();
    };
    target.setPointerCapture(event.pointerId);
    target.addEventListener("pointermove", on);
    target.addEventListener("pointerup", off);
    target.addEventListener("pointercancel", off);
  }

  choose(index) {
    this.chosen = index;
    this.refresh();
  }

  // The keyboard.

  key(event) {
    if (this.drawing) {
      if (event.key === "Escape") this.stop();
      if (event.key === "Enter") this.close();
      return;
    }
    const at = event.target.dataset?.corner;
    if (at === undefined) return;
    const zone = this.zones[this.chosen];
    const index = Number(at);
    const step = STEP * (event.shiftKey ? 5 : 1);
    const ways = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const corner = zone.corners[index];
    if (ways[event.key]) {
      zone.corners[index] = corner.map((share, axis) => Math.min(1, Math.max(0, share + ways[event.key][axis])));
    } else if (event.key === "Delete" && zone.corners.length > 3) {
      zone.corners.splice(index, 1);
    } else if (event.key === "Insert" || event.key === "Enter") {
      this.insert(index);
    } else return;
    event.preventDefault();
    this.refresh();
    this.handles.querySelector(`[data-corner="${Math.min(index, zone.corners.length - 1)}"]`)?.focus();
    this.changed();
  }

  /** A corner in the middle of the edge that begins at one. */
  insert(index) {
    const { corners } = this.zones[this.chosen];
    const [a, b] = [corners[index], corners[(index + 1) % corners.length]];
    corners.splice(index + 1, 0, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
  }

  // What is seen.

  refresh() {
    const points = (corners) => corners.map((corner) => corner.join(",")).join(" ");
    const shapes = this.zones.map((zone, index) => {
      const shape = document.createElementNS(SVG, "polygon");
      shape.setAttribute("points", points(zone.corners));
      shape.dataset.zone = index;
      shape.classList.toggle("chosen", index === this.chosen);
      return shape;
    });
    if (this.drawing?.length) {
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("points", points([...this.drawing, ...(this.pointer ? [this.pointer] : [])]));
      shapes.push(line);
    }
    this.shapes.replaceChildren(...shapes);
    this.showHandles();
    this.showList();
  }

  showHandles() {
    const corners = this.drawing ?? this.zones[this.chosen]?.corners ?? [];
    const name = this.zones[this.chosen]?.name;
    const entries = corners.map((corner, index) => ({ corner, index, isMiddle: false }));
    if (!this.drawing) {
      corners.forEach((corner, index) => {
        const next = corners[(index + 1) % corners.length];
        entries.push({ corner: [(corner[0] + next[0]) / 2, (corner[1] + next[1]) / 2], index, isMiddle: true });
      });
    }
    keep(this.handles, entries, ({ index, isMiddle }) => `${isMiddle ? "middle" : "corner"}${index}`, (entry) => this.handle(entry),
      (handle, { corner: [x, y], index }) => {
        handle.style.left = `${100 * x}%`;
        handle.style.top = `${100 * y}%`;
        handle.setAttribute("aria-label", TEXT.corner(index + 1, name, x, y));
      });
  }

  handle({ index, isMiddle }) {
    // Middles of edges become corners when they are dragged; by the keyboard Enter does so.
    const handle = make("button", { type: "button", className: isMiddle ? "middle" : "corner", tabIndex: isMiddle ? -1 : 0 });
    if (!isMiddle) handle.dataset.corner = index;
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      if (this.drawing) return this.corner(this.drawing[index]);
      if (isMiddle) this.insert(index);
      const zone = this.zones[this.chosen];
      const moving = isMiddle ? index + 1 : index;
      this.follow(event, (now) => {
        zone.corners[moving] = now.map((share) => snapped(Math.min(1, Math.max(0, share))));
      });
      this.refresh();
      this.handles.querySelector(`[data-corner="${moving}"]`)?.focus();
    });
    return handle;
  }

  showList() {
    const indices = this.zones.map((_, index) => index);
    keep(this.list, indices, (index) => index, (index) => {
      const name = make("input", { type: "text", aria: { label: TEXT.zoneName }, maxLength: 60 });
      name.addEventListener("focus", () => this.choose(index));
      name.addEventListener("change", () => this.rename(index, name.value));
      // Not what Enter does elsewhere in a form.
      name.addEventListener("keydown", (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        this.rename(index, name.value);
      });
      const remove = make("button", { type: "button", textContent: TEXT.remove, on: { click: () => this.remove(index) } });
      return make("li", {}, make("div", { className: "row" }, name, remove), make("span", { className: "inside" }));
    }, (item, index) => {
      const name = item.querySelector("input");
      if (document.activeElement !== name) name.value = this.zones[index].name;
      item.classList.toggle("chosen", index === this.chosen);
      item.querySelector("button").setAttribute("aria-label", TEXT.removeZone(this.zones[index].name));
    });
  }
}
