// SPDX-License-Identifier: MIT OR Apache-2.0
// Fetches a camera's pictures as long as somebody sees them.
import { pause } from "/dom.js";
import { ask, cameraPath } from "/interface.js";

const REST = 200; // before it is looked again whether anybody looks, ms
const AGAIN = 1000; // after a picture that did not come, ms

/**
 * Shows each picture of camera `name`, one after the other, until `isOver`; none are fetched while `isSeen` is false.
 * A picture that is being waited for is given up then: what nobody waits for is not encoded.
 */
export async function look(name, { isSeen, isOver, show }) {
  let number = 0;
  while (!isOver()) {
    if (document.hidden || !isSeen()) {
      await pause(REST);
      continue;
    }
    try {
      const view = await ask(cameraPath(name, `/view?after=${number}`));
      // Numbers begin again when the camera was taken away and added anew.
      number = view.number;
      if (!isOver()) await show(view);
    } catch {
      number = 0;
      await pause(AGAIN);
    }
  }
}
