// SPDX-License-Identifier: MIT OR Apache-2.0
// Masks as data: decoded, measured and coloured. Nothing here touches the page.

// Colours that stay apart when laid half transparent over a picture, neighbours furthest: those of gclipoverlay.
const PALETTE = [
  [255, 82, 82], [41, 182, 246], [255, 202, 40], [102, 217, 110], [186, 104, 255], [255, 138, 48], [38, 222, 202], [255, 105, 180],
  [92, 107, 255], [205, 220, 57], [226, 64, 251], [0, 200, 120], [30, 120, 255], [255, 171, 145], [198, 120, 64], [148, 226, 255],
];
const given = new Map(); // places in the palette, by label

/** Hues by the golden angle in three brightnesses, after the chosen colours. */
function paletteColour(index) {
  if (index < PALETTE.length) return PALETTE[index];
  const hue = ((index * 0.61803398875) % 1) * 6;
  const ramp = (offset) => Math.min(1, Math.max(0, Math.abs(((hue + offset) % 6) - 3) - 1));
  return [0, 4, 2].map((offset) => Math.round((0.25 + 0.75 * ramp(offset)) * [1, 0.72, 0.86][index % 3] * 255));
}

/** Red, green and blue of a label, which keeps them: those of its class number, or the next that no other label has. */
export function colour(label, value) {
  if (!given.has(label)) {
    const taken = new Set(given.values());
    let index = value - 1;
    while (taken.has(index)) index++;
    given.set(label, index);
  }
  return paletteColour(given.get(label));
}

async function bitmap(base64, type) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none" });
}

/** A view of the interface: the picture, and its masks if there are any: a grid of `ids`, n of the nth region, 0 of none. */
export async function decode(view) {
  const picture = await bitmap(view.jpeg, "image/jpeg");
  if (!view.masks) return { picture, masks: null };
  const image = await bitmap(view.masks.ids, "image/png");
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const ids = Uint8Array.from({ length: width * height }, (_, at) => pixels[4 * at]);
  const { rect, regions, tags, histograms } = view.masks;
  return { picture, masks: { ids, width, height, rect, regions, tags, histograms } };
}

/** The masks as a canvas of their own size. `style`: `hidden` labels, `outline` alone or the area. */
export function paint(masks, style) {
  const { ids, width, height, regions } = masks;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const colours = [null, ...regions.map(({ label, value }) => (style.hidden.has(label) ? null : colour(label, value)))];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const found = colours[ids[at]];
      if (!found || (style.outline && !isEdge(masks, x, y))) continue;
      image.data.set(found, 4 * at);
      image.data[4 * at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Whether a neighbour belongs to something else. */
function isEdge({ ids, width, height }, x, y) {
  const at = y * width + x;
  const differs = (other) => ids[other] !== ids[at];
  return (x > 0 && differs(at - 1)) || (x + 1 < width && differs(at + 1)) ||
    (y > 0 && differs(at - width)) || (y + 1 < height && differs(at + width));
}

/** The region at a place of the picture, 0..1 from its top left. */
export function regionAt({ ids, width, height, rect: [left, top, across, down], regions }, x, y) {
  const column = Math.floor(((x - left) / across) * width);
  const row = Math.floor(((y - top) / down) * height);
  if (column < 0 || row < 0 || column >= width || row >= height) return null;
  return regions[ids[row * width + column] - 1] ?? null;
}

/** Where the name of each region fits: the middle of it if that is part of it, else the middle of its widest row. */
export function places(masks) {
  const { ids, width, height, rect: [left, top, across, down], regions } = masks;
  const sums = regions.map(() => ({ x: 0, y: 0, count: 0, widest: 0, at: null }));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; ) {
      const id = ids[at];
      let length = 1;
      while (x + length < width && ids[at + length] === id) length++;
      const sum = sums[id - 1];
      if (sum) {
        sum.x += length * (x + length / 2);
        sum.y += length * (y + 0.5);
        sum.count += length;
        if (length > sum.widest) Object.assign(sum, { widest: length, at: [x + length / 2, y + 0.5] });
      }
      x += length;
      at += length;
    }
  }
  return sums.map(({ x, y, count, at }, index) => {
    if (!count) return null;
    const middle = [x / count, y / count];
    const isInside = ids[Math.floor(middle[1]) * width + Math.floor(middle[0])] === index + 1;
    const [column, row] = isInside ? middle : at;
    return [left + (column / width) * across, top + (row / height) * down];
  });
}

/** Shares of a polygon that the regions cover, by label. A pixel is inside by its middle, by the even-odd rule, as in the program. */
export function sharesInside(masks, corners) {
  const { ids, width, height, rect: [left, top, across, down], regions } = masks;
  const counts = new Array(regions.length + 1).fill(0);
  let all = 0;
  const edges = corners.map((corner, index) => [corner, corners[(index + 1) % corners.length]]);
  for (let row = 0; row < height; row++) {
    const y = top + ((row + 0.5) / height) * down;
    const crossings = edges
      .filter(([a, b]) => (a[1] <= y) !== (b[1] <= y))
      .map(([a, b]) => a[0] + ((y - a[1]) / (b[1] - a[1])) * (b[0] - a[0]))
      .sort((a, b) => a - b);
    for (let pair = 0; pair + 1 < crossings.length; pair += 2) {
      const column = (x) => Math.min(width, Math.max(0, Math.ceil(((x - left) / across) * width - 0.5)));
      for (let x = column(crossings[pair]); x < column(crossings[pair + 1]); x++, all++) counts[ids[row * width + x]]++;
    }
  }
  const shares = regions.map(({ label }, index) => [label, all ? counts[index + 1] / all : 0]);
  return shares.filter(([, share]) => share > 0).sort((a, b) => b[1] - a[1]);
}
