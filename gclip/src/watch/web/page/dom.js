// SPDX-License-Identifier: MIT OR Apache-2.0
// Elements of the page. Text goes in as text: nothing that a user or a camera says is ever read as markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`data` and `aria` as objects, `on` as listeners, anything else as it is called in the DOM) and children. */
export function make(tag, { data = {}, aria = {}, on = {}, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

/**
 * Makes the children of a parent those of a list, one for each key, and keeps what is there: focus and what is being typed survive.
 * `add` makes a child, `update` brings one up to date.
 */
export function keep(parent, entries, keyOf, add, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const entry of entries) {
    const key = String(keyOf(entry));
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = add(entry);
      child.dataset.key = key;
    }
    const place = before ? before.nextSibling : parent.firstChild;
    if (child !== place) parent.insertBefore(child, place);
    before = child;
    update?.(child, entry);
  }
  for (const child of known.values()) child.remove();
}

/** What the user has chosen, kept for his next visit. */
export function remembered(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: the choice lasts as long as the page.
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
