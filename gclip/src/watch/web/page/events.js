// SPDX-License-Identifier: MIT OR Apache-2.0
// What happened lately, as it happens.
import { byId, make } from "/dom.js";
import { TEXT } from "/text.js";

const SHOWN = 200;

export function tell(line) {
  if (line.type === "anomaly") return (line.state === "damaged" ? TEXT.damaged : TEXT.sound)(line.label, line.score);
  if (line.type === "presence") return (line.state === "entered" ? TEXT.entered : TEXT.left)(line.label, line.zone);
  return line.state === "connected" ? TEXT.connected : TEXT.lost(line.reason ?? "");
}

/** Shows events from now on. The browser connects again by itself, and asks for what it has missed. */
export function follow() {
  const list = byId("events");
  list.replaceChildren(make("li", { textContent: TEXT.nothingYet }));
  let isEmpty = true;
  new EventSource("/api/events/live").addEventListener("message", (message) => {
    const line = JSON.parse(message.data);
    if (isEmpty) list.replaceChildren();
    isEmpty = false;
    const time = make("time", { dateTime: line.time, textContent: new Date(line.time).toLocaleTimeString([], { hour12: false }) });
    list.prepend(make("li", {}, time, make("strong", { textContent: line.camera }), ` ${tell(line)}`));
    while (list.children.length > SHOWN) list.lastChild.remove();
  });
}
