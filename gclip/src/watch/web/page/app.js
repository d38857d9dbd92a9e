// SPDX-License-Identifier: MIT OR Apache-2.0
// The page of `gclip watch`. It knows nothing that the interface (docs/control.md) does not tell.
import { TEXT } from "/text.js";

const byId = (id) => document.getElementById(id);
for (const element of document.querySelectorAll("[data-text]")) element.textContent = TEXT[element.dataset.text];

const POLL = 1000; // between looks at how the cameras are, ms
const EVENTS = 200; // that are shown
const hidden = new Set(); // labels whose masks are not drawn
const tiles = new Map(); // by camera
let chosen = null; // the camera that is looked at alone
let version = null; // of what is watched, as this page knows it

function notice(text = "") {
  byId("notice").textContent = text;
}

async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = method === "GET" ? {} : { "Content-Type": "application/json" };
  if (method !== "GET" && version !== null) headers["If-Match"] = String(version);
  const answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) byId("login").hidden = !(byId("main").hidden = true);
  if (!answer.ok) throw Object.assign(new Error(said.error ?? answer.statusText), { status: answer.status });
  return said;
}

// A colour that belongs to a name, whatever else is in the picture.
function colour(label) {
  let hash = 2166136261;
  for (const c of label) hash = Math.imul(hash ^ c.codePointAt(0), 16777619);
  const hue = (hash >>> 0) % 360 / 60;
  const ramp = (n) => { const k = (n + hue) % 6; return Math.round(255 * (0.95 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1)))); };
  return [ramp(5), ramp(3), ramp(1)];
}

async function decoded(base64, type) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }), { colorSpaceConversion: "none" });
}

async function overlay(masks) {
  const ids = await decoded(masks.ids, "image/png");
  const canvas = new OffscreenCanvas(ids.width, ids.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(ids, 0, 0);
  const pixels = context.getImageData(0, 0, ids.width, ids.height);
  const colours = masks.regions.map((region) => (hidden.has(region.label) ? null : colour(region.label)));
  for (let at = 0; at < pixels.data.length; at += 4) {
    const found = colours[pixels.data[at] - 1];
    if (found) pixels.data.set([...found, 255], at);
    else pixels.data[at + 3] = 0;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

async function draw(tile, view) {
  const picture = await decoded(view.jpeg, "image/jpeg");
  const { canvas } = tile;
  canvas.width = picture.width;
  canvas.height = picture.height;
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  if (!view.masks) return;
  const [left, top, width, height] = view.masks.rect;
  const masks = await overlay(view.masks);
  context.globalAlpha = byId("opacity").value / 100;
  context.drawImage(masks, left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height);
  context.globalAlpha = 1;
  if (chosen === tile.name) showRegions(view.masks.regions);
}

// Looks at a camera as long as its tile is to be seen.
async function look(tile) {
  while (tiles.get(tile.name) === tile) {
    if (!tile.visible || document.hidden || byId("main").hidden) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      continue;
    }
    try {
      const view = await ask(`/api/cameras/${encodeURIComponent(tile.name)}/view?after=${tile.number}`);
      // Numbers begin again when the camera was taken away and added anew.
      tile.number = view.number;
      await draw(tile, view);
    } catch (error) {
      tile.number = 0;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = [...tiles.values()].find((tile) => tile.button === target);
    if (tile) tile.visible = isIntersecting;
  }
});

function addTile(name) {
  const button = document.createElement("button");
  button.className = "camera";
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  const about = document.createElement("div");
  about.className = "about";
  const parts = ["name", "state", "rates"].map((part) => Object.assign(document.createElement(part === "name" ? "strong" : "span"), { className: part }));
  parts[0].textContent = name;
  about.append(...parts);
  button.append(canvas, about);
  button.addEventListener("click", () => choose(name));
  const tile = { name, button, canvas, state: parts[1], rates: parts[2], number: 0, visible: false };
  tiles.set(name, tile);
  byId("wall").append(button);
  watcher.observe(button);
  look(tile);
  return tile;
}

function describe(camera) {
  const parts = [TEXT.states[camera.state] ?? camera.state];
  if (camera.why) parts.push(camera.why);
  if (camera.next_try_ms !== null) parts.push(TEXT.nextTry(camera.next_try_ms));
  return parts.join(", ");
}

async function refresh() {
  try {
    const { cameras } = await ask("/api/cameras");
    notice();
    const there = new Set(cameras.map((camera) => camera.name));
    for (const [name, tile] of tiles) {
      if (there.has(name)) continue;
      tile.button.remove();
      tiles.delete(name);
      if (chosen === name) choose(null);
    }
    for (const camera of cameras) {
      const tile = tiles.get(camera.name) ?? addTile(camera.name);
      tile.button.dataset.state = camera.state;
      tile.state.textContent = describe(camera);
      const age = camera.mask_age_ms === null ? "" : `, ${TEXT.age(camera.mask_age_ms)}`;
      tile.rates.textContent = TEXT.rate(camera.frames_per_second, camera.masks_per_second) + age;
    }
  } catch (error) {
    if (error.status !== 401) notice(TEXT.away);
  }
  setTimeout(refresh, POLL);
}

async function choose(name) {
  chosen = name;
  for (const tile of tiles.values()) tile.button.hidden = name !== null && tile.name !== name;
  byId("wall").classList.toggle("one", name !== null);
  byId("back").hidden = byId("words").hidden = name === null;
  if (name !== null) await readWords();
}

async function readWords() {
  try {
    const camera = await ask(`/api/cameras/${encodeURIComponent(chosen)}`);
    version = camera.version;
    byId("prompts").value = camera.keys.prompts ?? "";
    byId("background").value = camera.keys.background ?? "";
    notice(camera.saved ? "" : TEXT.unsaved);
  } catch (error) {
    notice(error.message);
  }
}

async function change(path, method, body) {
  try {
    const said = await ask(path, { method, body });
    version = said.version;
    notice(said.saved ? "" : TEXT.unsaved);
  } catch (error) {
    notice(error.message);
    // Somebody else was faster: his words are shown.
    if (error.status === 409) await readWords().then(() => notice(error.message));
  }
}

byId("words").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = { prompts: byId("prompts").value, background: byId("background").value || null };
  change(`/api/cameras/${encodeURIComponent(chosen)}`, "PATCH", body);
});
byId("save").addEventListener("click", () => change("/api/config/save", "POST"));
byId("revert").addEventListener("click", () => change("/api/config/reload", "POST").then(readWords));
byId("back").addEventListener("click", () => choose(null));

function showRegions(regions) {
  const list = byId("regions");
  const known = new Map([...list.children].map((item) => [item.dataset.label, item]));
  for (const region of regions) {
    let item = known.get(region.label);
    if (!item) {
      item = document.createElement("li");
      item.dataset.label = region.label;
      const label = document.createElement("label");
      const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !hidden.has(region.label) });
      box.addEventListener("change", () => (box.checked ? hidden.delete(region.label) : hidden.add(region.label)));
      const chip = document.createElement("span");
      chip.className = "chip";
      chip.style.background = `rgb(${colour(region.label).join(" ")})`;
      label.append(box, chip, document.createElement("span"));
      item.append(label);
      list.append(item);
    }
    item.querySelector("label > span:last-child").textContent = TEXT.region(region.label, region.area, region.score);
    known.delete(region.label);
  }
  for (const item of known.values()) item.remove();
}

function tell(line) {
  if (line.type === "presence") return (line.state === "entered" ? TEXT.entered : TEXT.left)(line.label, line.zone);
  return line.state === "connected" ? TEXT.connected : TEXT.lost(line.reason ?? "");
}

function follow() {
  const list = byId("events");
  list.textContent = TEXT.nothingYet;
  const source = new EventSource("/api/events/live");
  source.addEventListener("message", (message) => {
    const line = JSON.parse(message.data);
    if (!list.children.length) list.textContent = "";
    const item = document.createElement("li");
    const time = Object.assign(document.createElement("time"), { dateTime: line.time, textContent: new Date(line.time).toLocaleTimeString([], { hour12: false }) });
    const camera = Object.assign(document.createElement("strong"), { textContent: line.camera });
    item.append(time, camera, ` ${tell(line)}`);
    list.prepend(item);
    while (list.children.length > EVENTS) list.lastChild.remove();
  });
}

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/api/session", { method: "POST", body: { token: byId("token").value } });
    byId("login").hidden = !(byId("main").hidden = false);
    byId("token").value = "";
    notice();
    follow();
  } catch (error) {
    notice(error.status === 401 ? TEXT.wrongToken : error.message);
  }
});

// A page that is reloaded may be known already.
ask("/api/cameras").then(follow, () => {});
refresh();
