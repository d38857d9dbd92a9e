// SPDX-License-Identifier: MIT OR Apache-2.0
// Lines of results, as gclipmeta2json and `gclip segment` write them, to masks that can be drawn. Nothing here touches the page.

/** Runs of a mask in COCO's compressed form: zeros and ones by turns, column by column. */
function runs(counts) {
  const lengths = [];
  for (let at = 0; at < counts.length; ) {
    let value = 0;
    let shift = 0;
    let part;
    do {
      part = counts.charCodeAt(at++) - 48;
      value |= (part & 31) << shift;
      shift += 5;
    } while (part & 32);
    // The last part has a sign.
    if (part & 16) value |= -1 << shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

/** The masks of one line as a grid of ids, n of the nth region; null where the line has none. */
export function masksOf(line) {
  const masked = line.regions.filter((region) => region.mask?.type === "rle");
  if (!masked.length) return null;
  const [height, width] = masked[0].mask.size;
  const ids = new Uint8Array(width * height);
  line.regions.slice(0, 255).forEach((region, index) => {
    if (region.mask?.type !== "rle") return;
    let place = 0;
    runs(region.mask.counts).forEach((length, turn) => {
      if (turn % 2) {
        for (let at = place; at < place + length; at++) ids[(at % height) * width + Math.floor(at / height)] = index + 1;
      }
      place += length;
    });
  });
  const { x = 0, y = 0, w = 1, h = 1 } = line.rect ?? {};
  return { ids, width, height, rect: [x, y, w, h], regions: line.regions, tags: line.tags };
}

/** The line of a time, in seconds from the first, among lines by rising time. */
export function lineAt(lines, seconds) {
  const wanted = lines[0].pts + seconds * 1e9;
  let [low, high] = [0, lines.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (lines[middle].pts <= wanted + 1e6) low = middle;
    else high = middle - 1;
  }
  return lines[low];
}

/** All labels of the lines, in the order of their values. */
export function labelsIn(lines) {
  const labels = new Map();
  for (const { regions } of lines) for (const { label, value } of regions) labels.set(label, value);
  return [...labels].sort((a, b) => a[1] - b[1]).map(([label]) => label);
}
