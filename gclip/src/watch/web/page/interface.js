// SPDX-License-Identifier: MIT OR Apache-2.0
// The interface (docs/control.md), as the page speaks it.

/** Tells `unknown` when the interface wants to know who asks. */
export const door = new EventTarget();

/** What the interface says. Throws what it says why not, with its `status`. */
export async function ask(path, { method = "GET", body, version, signal } = {}) {
  const headers = method === "GET" ? {} : { "Content-Type": "application/json" };
  if (version !== undefined) headers["If-Match"] = `"${version}"`;
  const answer = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401) door.dispatchEvent(new Event("unknown"));
  if (!answer.ok) throw Object.assign(new Error(said.error ?? answer.statusText), { status: answer.status });
  return said;
}

export const cameraPath = (name, part = "") => `/api/cameras/${encodeURIComponent(name)}${part}`;
