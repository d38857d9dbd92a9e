// SPDX-License-Identifier: MIT OR Apache-2.0
// Recorded results: a video or pictures with the masks that were found then, drawn anew.
import * as classes from "/classes.js";
import { byId, make } from "/dom.js";
import { drawnBy } from "/drawing.js";
import { ask } from "/interface.js";
import { labelsIn, lineAt, masksOf } from "/recorded.js";
import { Stage } from "/stage.js";
import { TEXT } from "/text.js";

for (const element of document.querySelectorAll("[data-text]")) element.textContent = TEXT[element.dataset.text];

const stage = new Stage(TEXT.results);
byId("picture").append(stage.element);
let chosen = null; // the recording that is shown: show(position), end()
let labels = [];

function showFrame(picture, line) {
  const masks = masksOf(line);
  stage.shown = { picture, masks };
  stage.element.style.aspectRatio = `${picture.width} / ${picture.height}`;
  stage.draw();
  classes.show(labels, masks ?? line, { limits: null, isNew: true }, { changed: () => {}, redraw: () => stage.draw() });
}

async function fetched(path, kind) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? answer.statusText);
  return answer[kind]();
}

async function linesOf(name) {
  const text = await fetched(`/api/results/${encodeURIComponent(name)}/lines`, "text");
  const lines = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  if (!lines.length) throw new Error(TEXT.noLines);
  labels = labelsIn(lines);
  return lines;
}

/** A video, which the browser plays out of sight; what it shows is drawn with the line of its time. */
async function video({ name }) {
  const lines = (await linesOf(name)).filter((line) => line.pts !== null);
  const blob = await fetched(`/api/results/${encodeURIComponent(name)}/video`, "blob");
  const player = make("video", { src: URL.createObjectURL(blob), muted: true, loop: true, playsInline: true });
  await new Promise((resolve, reject) => {
    player.addEventListener("loadeddata", resolve, { once: true });
    player.addEventListener("error", () => reject(new Error(TEXT.noPlayer)), { once: true });
  });
  let isOver = false;
  const position = byId("position");
  position.max = player.duration;
  const next = async (_, { mediaTime }) => {
    if (isOver) return;
    const picture = await createImageBitmap(player);
    if (isOver) return;
    showFrame(picture, lineAt(lines, mediaTime));
    position.value = mediaTime;
    byId("time").textContent = TEXT.position(mediaTime, player.duration);
    player.requestVideoFrameCallback(next);
  };
  player.requestVideoFrameCallback(next);
  const playing = () => (byId("play").textContent = player.paused ? TEXT.play : TEXT.stop);
  for (const kind of ["play", "pause"]) player.addEventListener(kind, playing);
  // Who wants less movement starts it himself; one picture is there either way.
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) player.currentTime = 0;
  else await player.play();
  return {
    seek: (time) => (player.currentTime = time),
    toggle: () => (player.paused ? player.play() : player.pause()),
    end: () => {
      isOver = true;
      player.pause();
      URL.revokeObjectURL(player.src);
    },
  };
}

/** Pictures, one at a time. */
async function pictures({ name }) {
  const lines = await linesOf(name);
  const position = byId("position");
  position.max = lines.length - 1;
  position.step = 1;
  byId("play").textContent = TEXT.next;
  const seek = async (number) => {
    const blob = await fetched(`/api/results/${encodeURIComponent(name)}/picture/${number}`, "blob");
    showFrame(await createImageBitmap(blob), lines[number]);
    position.value = number;
    byId("time").textContent = TEXT.pictureOf(number + 1, lines.length, lines[number].picture);
  };
  await seek(0);
  return { seek: (at) => seek(Number(at)).catch(tell), toggle: () => seek((Number(position.value) + 1) % lines.length).catch(tell), end: () => {} };
}

const tell = (error) => (byId("notice").textContent = error.message);

async function choose(entry) {
  chosen?.end();
  chosen = null;
  classes.clear();
  byId("notice").textContent = "";
  byId("position").step = "any";
  byId("position").value = 0;
  try {
    chosen = await (entry.kind === "video" ? video : pictures)(entry);
  } catch (error) {
    tell(error);
  }
}

byId("play").addEventListener("click", () => chosen?.toggle());
byId("position").addEventListener("input", () => chosen?.seek(byId("position").value));
byId("position").setAttribute("aria-label", TEXT.positionOf);

drawnBy(() => stage.draw());

ask("/api/results").then(({ folder, results }) => {
  byId("title").textContent = folder;
  byId("list").replaceChildren(...results.map((entry) => {
    const button = make("button", { type: "button", textContent: entry.name, on: { click: () => choose(entry) } });
    return make("li", {}, button);
  }));
  if (results.length) return choose(results[0]);
}).catch(tell);
