// SPDX-License-Identifier: MIT OR Apache-2.0
// One camera: its picture, its words, classes and zones, which change while it plays.
import * as classes from "/classes.js";
import { byId, remember, remembered } from "/dom.js";
import { ask, cameraPath } from "/interface.js";
import { look } from "/looking.js";
import { Stage } from "/stage.js";
import { TEXT } from "/text.js";
import { describe } from "/wall.js";
import { formatThresholds, labelsOf, parseThresholds } from "/words.js";
import { Editor, format, parse } from "/zones.js";

const THRESHOLDS = "prompt-thresholds";
const TYPED = 250; // after the last key before words are tried, ms

let open = null; // the camera that is looked at: name, stage, editor
let version = null; // of all that is watched, as this page knows it
let inForce = {}; // what the camera looks for
let limits = null; // least scores by label, as in the form
let waiting = null; // until typed words are tried
let busy = Promise.resolve(); // changes go one after the other

/** Looks at a camera alone. */
export async function show(name) {
  close();
  const stage = new Stage(name);
  const editor = new Editor(stage, byId("zones"), () => edited());
  const mine = (open = { name, stage, editor });
  byId("picture").replaceChildren(stage.element);
  byId("name").textContent = name;
  byId("times").textContent = byId("about").textContent = "";
  inForce = {};
  classes.clear();
  say();
  look(name, {
    isSeen: () => !byId("camera").hidden && !byId("main").hidden,
    isOver: () => open !== mine,
    show: async (view) => {
      const { picture, masks } = await stage.show(view);
      stage.element.style.aspectRatio = `${picture.width} / ${picture.height}`;
      byId("times").textContent = TEXT.times(view.masks?.age, view.delay);
      showClasses(masks, { isNew: true });
      editor.test(masks);
    },
  });
  await read().catch((error) => say(error.message));
}

export function close() {
  clearTimeout(waiting);
  open = null;
}

/** How the camera is. */
export function refresh(cameras) {
  const camera = cameras.find(({ name }) => name === open?.name);
  if (!camera) return;
  byId("about").textContent = `${describe(camera)}, ${TEXT.rate(camera.frames_per_second, camera.masks_per_second)}`;
}

export const redraw = () => open?.stage.draw();

function say(text = "", kind = "error") {
  byId("said").textContent = text;
  byId("said").dataset.kind = kind;
}

// What is in force, and what is in the form.

async function read({ keepForm = false } = {}) {
  const mine = open;
  const camera = await ask(cameraPath(mine.name));
  if (open !== mine) return;
  version = camera.version;
  const { prompts = "", background = "", zones = "" } = camera.keys;
  inForce = camera.in_force ?? { prompts, background, zones, labels: labelsOf(prompts) };
  byId("saved").textContent = camera.saved ? "" : TEXT.unsaved;
  byId("doubts").textContent = (inForce.doubts ?? []).join(" ");
  if (!keepForm) fill();
  showClasses(mine.stage.shown?.masks, { isNew: false });
}

function fill() {
  byId("prompts").value = inForce.prompts;
  byId("background").value = inForce.background;
  open.editor.set(parse(inForce.zones));
  limits = THRESHOLDS in inForce ? parseThresholds(inForce[THRESHOLDS]) : null;
}

function showClasses(masks, { isNew }) {
  const set = (label, least) => {
    limits[least ? "set" : "delete"](label, least);
    edited();
  };
  classes.show(inForce.labels ?? [], masks ?? { regions: [] }, { limits, isNew }, { changed: set, redraw });
}

/** Limits of classes that the words name: others would be refused. */
function limitsOf(prompts, all) {
  const labels = new Set(labelsOf(prompts));
  return formatThresholds([...all].filter(([label]) => labels.has(label)));
}

/** What the form says, where it is something else than what is in force. */
function wishes() {
  const prompts = byId("prompts").value;
  const form = { prompts, background: byId("background").value, zones: format(open.editor.zones) };
  const before = { ...inForce, zones: format(parse(inForce.zones)) };
  if (limits) {
    form[THRESHOLDS] = limitsOf(prompts, limits);
    before[THRESHOLDS] = formatThresholds(parseThresholds(inForce[THRESHOLDS]));
  }
  return Object.fromEntries(Object.entries(form).filter(([key, value]) => value.trim() !== before[key].trim()));
}

/** Something was typed or drawn. */
function edited() {
  clearTimeout(waiting);
  if (byId("live").checked) waiting = setTimeout(apply, TYPED);
}

function apply() {
  clearTimeout(waiting);
  const mine = open;
  busy = busy.then(async () => {
    if (open !== mine) return;
    try {
      await change();
    } catch (error) {
      say(error.message);
    }
  });
  return busy;
}

async function change() {
  const wanted = wishes();
  const isNothing = Object.keys(wanted).length === 0;
  if (isNothing || wanted.prompts?.trim() === "") return say(isNothing ? "" : TEXT.noWords);
  const before = inForce;
  const set = () => ask(cameraPath(open.name), { method: "PATCH", body: wanted, version });
  try {
    await set();
  } catch (error) {
    if (error.status !== 409) throw error;
    await read({ keepForm: true });
    const isTheirs = Object.keys(wanted).some((key) => before[key] !== inForce[key]);
    // Somebody has changed another camera, or other keys of this one: that is no conflict.
    if (isTheirs) return say(TEXT.conflict(Object.keys(wanted).map((key) => inForce[key]).join(" · ")));
    await set();
  }
  await read({ keepForm: true });
  say(TEXT.applied, "done");
}

async function whole(path, done) {
  try {
    const said = await ask(path, { method: "POST" });
    say(done ?? said.done, "done");
    version = said.version;
    return true;
  } catch (error) {
    say(error.message);
    return false;
  }
}

byId("words").addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});
for (const id of ["prompts", "background"]) byId(id).addEventListener("input", edited);
// A line break separates classes too; who wants one says so.
byId("prompts").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  apply();
});
byId("save").addEventListener("click", async () => {
  await apply();
  if (await whole("/api/config/save")) await read({ keepForm: true });
});
byId("revert").addEventListener("click", async () => {
  if (await whole("/api/config/reload", TEXT.reverted)) await read();
});
byId("live").addEventListener("change", () => {
  remember("live", byId("live").checked);
  if (byId("live").checked) apply();
});
byId("draw").addEventListener("click", () => open?.editor.draw());
byId("add").addEventListener("click", () => open?.editor.add());

let isUsual = false;

/** Whether words are tried as they are typed, unless the user has said what he wants. */
export function tryTyped(now) {
  if (now !== isUsual) byId("live").checked = remembered("live", now);
  isUsual = now;
}

byId("live").checked = remembered("live", isUsual);
