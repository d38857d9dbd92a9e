// SPDX-License-Identifier: MIT OR Apache-2.0
// The header's controls of how pictures are drawn, kept for the next visit.
import { byId, remember, remembered } from "/dom.js";
import { style } from "/stage.js";

const CONTROLS = ["opacity", "outline", "labels"];

/** Sets the style as it was chosen last, and from now on as the controls say; `redraw` draws all pictures anew. */
export function drawnBy(redraw) {
  const [opacity, outline, labels] = CONTROLS.map(byId);
  const restyle = () => {
    style.opacity = opacity.value / 100;
    style.outline = outline.checked;
    style.labels = labels.checked;
    remember("style", { opacity: opacity.value, outline: style.outline, labels: style.labels });
    redraw();
  };
  const kept = remembered("style", {});
  opacity.value = kept.opacity ?? opacity.value;
  outline.checked = kept.outline ?? false;
  labels.checked = kept.labels ?? true;
  for (const control of [opacity, outline, labels]) control.addEventListener("input", restyle);
  restyle();
}
