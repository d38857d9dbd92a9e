// SPDX-License-Identifier: MIT OR Apache-2.0
// A picture with its masks, and what is under the pointer.
import { make } from "/dom.js";
import { colour, decode, paint, places, regionAt } from "/masks.js";
import { TEXT } from "/text.js";

/** How all pictures are drawn; changed by the header's controls. */
export const style = { opacity: 0.55, outline: false, labels: true, hidden: new Set() };

const LABEL = 12; // height of the letters on the screen, px

export class Stage {
  /** For the pictures of one camera. `element` is to be put into the page. */
  constructor(name) {
    this.canvas = make("canvas", { role: "img", aria: { label: name } });
    this.tip = make("div", { className: "tip", hidden: true });
    this.element = make("div", { className: "stage" }, this.canvas, this.tip);
    this.shown = null;
    for (const kind of ["pointermove", "pointerdown"]) this.element.addEventListener(kind, (event) => this.point(event));
    this.element.addEventListener("pointerleave", () => (this.tip.hidden = true));
  }

  async show(view) {
    this.shown = await decode(view);
    this.draw();
    return this.shown;
  }

  /** Draws what is shown once more, as when the style has changed. */
  draw() {
    if (!this.shown) return;
    const { canvas, shown: { picture, masks } } = this;
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      canvas.width = picture.width;
      canvas.height = picture.height;
    }
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(picture, 0, 0);
    if (!masks) return;
    const [left, top, width, height] = masks.rect;
    context.globalAlpha = style.opacity;
    context.drawImage(paint(masks, style), left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height);
    context.globalAlpha = 1;
    if (style.labels) this.write(context, masks);
  }

  write(context, masks) {
    const { canvas } = this;
    const size = LABEL * (canvas.width / (canvas.clientWidth || canvas.width));
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    places(masks).forEach((place, index) => {
      const { label, value } = masks.regions[index];
      if (!place || style.hidden.has(label)) return;
      const text = label.length > 40 ? `${label.slice(0, 39)}…` : label;
      const width = context.measureText(text).width + size;
      // Whole on the picture.
      const x = Math.min(Math.max(place[0] * canvas.width, width / 2), canvas.width - width / 2) - width / 2;
      const y = Math.min(Math.max(place[1] * canvas.height, size), canvas.height - size);
      context.fillStyle = "rgb(0 0 0 / 0.65)";
      context.beginPath();
      context.roundRect(x, y - 0.75 * size, width, 1.5 * size, 0.4 * size);
      context.fill();
      context.fillStyle = `rgb(${colour(label, value).map((part) => Math.round(128 + part / 2)).join(" ")})`;
      context.fillText(text, x + size / 2, y);
    });
  }

  /** Where an event is in the picture, 0..1, however the picture is fitted into its element. */
  place(event) {
    const { canvas } = this;
    const box = canvas.getBoundingClientRect();
    const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
    const [width, height] = [canvas.width * scale, canvas.height * scale];
    return [
      (event.clientX - box.left - (box.width - width) / 2) / width,
      (event.clientY - box.top - (box.height - height) / 2) / height,
    ];
  }

  point(event) {
    const masks = this.shown?.masks;
    const region = masks && regionAt(masks, ...this.place(event));
    this.tip.hidden = !region || style.hidden.has(region.label);
    if (this.tip.hidden) return;
    this.tip.textContent = TEXT.region(region.label, region.area, region.score);
    const box = this.element.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    this.tip.style.left = `${Math.min(x + 12, box.width - this.tip.offsetWidth - 4)}px`;
    this.tip.style.top = `${y > 48 ? y - 40 : y + 20}px`;
  }
}
