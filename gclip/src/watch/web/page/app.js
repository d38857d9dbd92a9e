// SPDX-License-Identifier: MIT OR Apache-2.0
// The page of `gclip watch`. It knows nothing that the interface (docs/control.md) does not tell.
import * as camera from "/camera.js";
import { byId, pause } from "/dom.js";
import { drawnBy } from "/drawing.js";
import { follow } from "/events.js";
import * as health from "/health.js";
import * as history from "/history.js";
import { ask, door } from "/interface.js";
import { TEXT } from "/text.js";
import * as wall from "/wall.js";

const POLL = 1000; // between looks at how the cameras are, ms
// Parts of the page, as they are called in the address, and their elements.
const PARTS = { wall: "wall", camera: "camera", events: "events-part", event: "event", health: "health" };

for (const element of document.querySelectorAll("[data-text]")) element.textContent = TEXT[element.dataset.text];

const notice = (text = "") => (byId("notice").textContent = text);

// Who is not known says a token first, or user and password.

let isFollowing = false;

function enter() {
  byId("login").hidden = !(byId("main").hidden = false);
  if (!isFollowing) follow();
  isFollowing = true;
}

door.addEventListener("unknown", async () => {
  byId("login").hidden = !(byId("main").hidden = true);
  const { token, password } = await ask("/api/session");
  byId("user-part").hidden = !password;
  byId("user").required = password && !token;
  byId("secret-name").textContent = !password ? TEXT.token : token ? TEXT.passwordOrToken : TEXT.password;
});
byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [user, secret] = [byId("user").value, byId("token").value];
  try {
    await ask("/api/session", { method: "POST", body: user ? { user, password: secret } : { token: secret } });
    byId("token").value = "";
    notice();
    enter();
    route();
  } catch (error) {
    notice(error.status === 401 ? (user ? TEXT.wrongPassword : TEXT.wrongToken) : error.message);
  }
});

// Which part of the page is shown: it is in the address, so that it can be kept and sent.

function route() {
  const [path, query = ""] = location.hash.split("?");
  const [, part, ...rest] = path.split("/");
  const shown = Object.hasOwn(PARTS, part ?? "") ? part : "wall";
  for (const [part, id] of Object.entries(PARTS)) byId(id).hidden = part !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${shown}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.body.dataset.part = shown;
  if (shown === "camera") camera.show(decodeURIComponent(rest.join("/")));
  else camera.close();
  if (shown === "events") history.show(new URLSearchParams(query));
  else history.close();
  if (shown === "event") history.showOne(rest[0]);
  window.scrollTo(0, 0);
}

window.addEventListener("hashchange", route);

// How pictures are drawn.

drawnBy(() => {
  wall.redraw();
  camera.redraw();
});

// How the cameras are.

async function refresh() {
  for (;;) {
    try {
      if (!document.hidden && byId("login").hidden) {
        const all = await ask("/api/cameras");
        enter();
        notice();
        wall.show(all.cameras);
        camera.refresh(all.cameras);
        history.refresh(all.cameras);
        await health.refresh();
        camera.tryTyped(all.tried);
      }
    } catch (error) {
      if (error.status !== 401) notice(TEXT.away);
    }
    await pause(POLL);
  }
}

route();
refresh();
